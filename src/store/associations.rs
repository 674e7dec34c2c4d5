//! Published associations, each found by its address, by its account, and by its lookup hash under
//! every pepper.

use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    StoreError, Tables, Transaction, Writes,
    accounts::account_number,
    codec::{decode, encode},
    rows::{AssociationRow, address, user_id},
};
use crate::domain::{
    association::Association,
    ids::UserId,
    language::Language,
    threepid::{Address, Medium},
    time::Millis,
};

impl<T: Transaction> Tables<T> {
    /// The published association of an address.
    pub fn association(&self, address: &Address) -> Result<Option<Association>, StoreError> {
        Ok(self.association_row(address)?.map(|(association, _)| association))
    }

    /// How many addresses are published.
    pub fn published(&self) -> Result<u64, StoreError> {
        self.associations.len().map_err(StoreError::new)
    }

    /// The language in which the owner of a published address is written to.
    pub fn language_of(&self, address: &Address) -> Result<Option<Language>, StoreError> {
        Ok(self.association_row(address)?.map(|(_, language)| language))
    }

    fn association_row(&self, address: &Address) -> Result<Option<(Association, Language)>, StoreError> {
        let key = (address.medium().number(), address.as_str());
        let Some(row) = self.associations.get(key).map_err(StoreError::new)? else { return Ok(None) };
        let AssociationRow { user_id: owner, ts, language } = decode(row.value())?;
        let association = Association { address: address.clone(), user_id: user_id(&owner)?, ts: Millis(ts) };
        Ok(Some((association, language)))
    }

    /// Every association of an account.
    pub fn associations_of(&self, user: &UserId) -> Result<Vec<Association>, StoreError> {
        let number = account_number(user);
        let mut associations = Vec::new();
        for row in self.account_addresses.range((number, 0, "")..).map_err(StoreError::new)? {
            let (key, _) = row.map_err(StoreError::new)?;
            let (owner, medium, text) = key.value();
            if owner != number {
                break;
            }
            let medium = Medium::from_number(medium);
            let medium = medium.ok_or_else(|| StoreError::new("a row has an unknown medium"))?;
            let found = self.association(&address(medium, text))?;
            associations.extend(found.filter(|association| association.user_id == *user));
        }
        Ok(associations)
    }
}

impl Writes<'_> {
    /// Publishes an association: from here on, a lookup finds it.
    pub fn put_association(
        &mut self,
        association: &Association,
        language: Language,
    ) -> Result<(), StoreError> {
        self.forget_association(&association.address)?;
        self.written += 1;
        let Association { address, user_id, ts } = association;
        let row = encode(&AssociationRow { user_id: user_id.as_str().to_owned(), ts: ts.0, language })?;
        let (medium, text) = (address.medium().number(), address.as_str());
        self.tables.associations.insert((medium, text), row.as_slice()).map_err(StoreError::new)?;
        let key = (account_number(user_id), medium, text);
        self.tables.account_addresses.insert(key, ()).map_err(StoreError::new)?;
        self.tables.indexes.insert(address, user_id)
    }

    /// Changes the language in which the owner of a published address is written to; `false` if it
    /// is not published.
    pub fn set_language(&mut self, address: &Address, language: Language) -> Result<bool, StoreError> {
        let Some(association) = self.association(address)? else { return Ok(false) };
        self.written += 1;
        let (user_id, ts) = (association.user_id.as_str().to_owned(), association.ts.0);
        let row = encode(&AssociationRow { user_id, ts, language })?;
        let key = (address.medium().number(), address.as_str());
        self.tables.associations.insert(key, row.as_slice()).map_err(StoreError::new)?;
        Ok(true)
    }

    /// Withdraws the association of an address: from here on, no lookup finds it.
    pub fn remove_association(&mut self, address: &Address) -> Result<(), StoreError> {
        if self.forget_association(address)? {
            self.tables.indexes.remove(address)?;
        }
        Ok(())
    }

    /// Removes the row, and the way to it from its account; `false` if there was none. What is
    /// looked up is replaced or removed by the caller.
    fn forget_association(&mut self, address: &Address) -> Result<bool, StoreError> {
        let Some(Association { user_id, .. }) = self.association(address)? else { return Ok(false) };
        self.written += 1;
        self.removed = true;
        let (medium, text) = (address.medium().number(), address.as_str());
        self.tables.associations.remove((medium, text)).map_err(StoreError::new)?;
        let key = (account_number(&user_id), medium, text);
        self.tables.account_addresses.remove(key).map_err(StoreError::new)?;
        Ok(true)
    }
}
