//! Published associations, found by their address, their account, and their hash in every lookup index.

use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use super::{account_number, read_medium, read_user_id};
use crate::{
    domain::{association::Association, ids::UserId, language::Language, threepid::Address, time::Millis},
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `associations`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct AssociationRow {
    pub user_id: String,
    pub ts: u64,
    pub language: Language,
}

impl<T: Transaction> Tables<T> {
    /// The published association of an address.
    pub fn association(&self, address: &Address) -> Result<Option<Association>, StoreError> {
        Ok(self.association_row(address)?.map(|(association, _)| association))
    }

    /// The number of published addresses.
    pub fn published(&self) -> Result<u64, StoreError> {
        Ok(self.associations.len()?)
    }

    /// The language of mails to the owner of a published address.
    pub fn language_of(&self, address: &Address) -> Result<Option<Language>, StoreError> {
        Ok(self.association_row(address)?.map(|(_, language)| language))
    }

    fn association_row(&self, address: &Address) -> Result<Option<(Association, Language)>, StoreError> {
        let Some(row) = self.associations.get(key(address))? else { return Ok(None) };
        let AssociationRow { user_id, ts, language } = decode(row.value())?;
        let (address, user_id, ts) = (address.clone(), read_user_id(&user_id)?, Millis(ts));
        Ok(Some((Association { address, user_id, ts }, language)))
    }

    /// The associations of an account.
    pub fn associations_of(&self, user: &UserId) -> Result<Vec<Association>, StoreError> {
        let number = account_number(user);
        let mut associations = Vec::new();
        for row in self.account_addresses.range((number, 0, "")..)? {
            let (key, _) = row?;
            let (owner, medium, text) = key.value();
            if owner != number {
                break;
            }
            let found = self.association(&Address::kept(read_medium(medium)?, text))?;
            associations.extend(found.filter(|association| association.user_id == *user));
        }
        Ok(associations)
    }
}

impl Scan<'_> {
    /// At most `limit` associations after the one of `after`, in the order of their addresses.
    pub fn associations_after(
        &self,
        after: Option<&Address>,
        limit: usize,
    ) -> Result<Vec<Association>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |address| Bound::Excluded(key(address)));
        let rows = self.associations.range::<(u8, &str)>((from, Bound::Unbounded))?.take(limit);
        rows.map(|row| {
            let (key, row) = row?;
            let (medium, text) = key.value();
            let AssociationRow { user_id, ts, .. } = decode(row.value())?;
            let address = Address::kept(read_medium(medium)?, text);
            Ok(Association { address, user_id: read_user_id(&user_id)?, ts: Millis(ts) })
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Publishes an association. Lookups find it from this commit on.
    pub fn put_association(
        &mut self,
        association: &Association,
        language: Language,
    ) -> Result<(), StoreError> {
        let Association { address, user_id, ts } = association;
        self.remove_row(address)?;
        let row = encode(&AssociationRow { user_id: user_id.as_str().to_owned(), ts: ts.0, language })?;
        self.tables.associations.insert(key(address), row.as_slice())?;
        let (medium, text) = key(address);
        self.tables.account_addresses.insert((account_number(user_id), medium, text), ())?;
        self.tables.indexes.insert(address, user_id)
    }

    /// Changes the language of mails to the owner of a published address. `false` if it is not published.
    pub fn set_language(&mut self, address: &Address, language: Language) -> Result<bool, StoreError> {
        let Some(association) = self.association(address)? else { return Ok(false) };
        let (user_id, ts) = (association.user_id.as_str().to_owned(), association.ts.0);
        let row = encode(&AssociationRow { user_id, ts, language })?;
        self.tables.associations.insert(key(address), row.as_slice())?;
        Ok(true)
    }

    /// Withdraws the association of an address. Lookups do not find it from this commit on.
    pub fn remove_association(&mut self, address: &Address) -> Result<(), StoreError> {
        if self.remove_row(address)? {
            self.tables.indexes.remove(address)?;
        }
        Ok(())
    }

    /// Removes the row and its account's entry. `false` if there was none. The caller must replace or remove
    /// the entries of the lookup indexes.
    fn remove_row(&mut self, address: &Address) -> Result<bool, StoreError> {
        let Some(Association { user_id, .. }) = self.association(address)? else { return Ok(false) };
        let (medium, text) = key(address);
        self.tables.associations.remove((medium, text))?;
        self.tables.account_addresses.remove((account_number(&user_id), medium, text))?;
        Ok(true)
    }
}

fn key(address: &Address) -> (u8, &str) {
    (address.medium().number(), address.as_str())
}
