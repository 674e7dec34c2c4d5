//! What can be written, and only inside a write transaction.
//!
//! Each method keeps the tables consistent with each other, so that no caller can forget an index.

use std::ops::Deref;

use redb::WriteTransaction;

use super::{
    StoreError,
    codec::encode,
    rows::{AssociationRow, ConsentRow, TokenRow},
    tables::Tables,
};
use crate::domain::{
    association::Association,
    ids::{Token, UserId},
    lookup::LookupHash,
    secret::SecretHash,
    threepid::Address,
    time::Millis,
};

/// The tables inside a write transaction.
pub struct Writes<'txn> {
    pub(super) tables: Tables<&'txn WriteTransaction>,
    pub(super) written: u64,
    /// Whether something personal was removed, whose bytes are in the file until it is rewritten.
    pub(super) removed: bool,
}

impl<'txn> Deref for Writes<'txn> {
    type Target = Tables<&'txn WriteTransaction>;

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}

impl<'txn> Writes<'txn> {
    /// Opens every table of the transaction, creating those that are not there.
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { tables: Tables::open(&transaction)?, written: 0, removed: false })
    }

    /// Notes what the rewrite has to know of this transaction.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if self.removed && !self.has_removed()? {
            self.tables.meta.insert("removed", encode(&true)?.as_slice()).map_err(StoreError::new)?;
        }
        Ok(())
    }

    /// How many methods that write were called.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Stores an access token by its hash.
    pub fn put_token(&mut self, token: &Token, owner: &UserId, now: Millis) -> Result<(), StoreError> {
        self.written += 1;
        let row = encode(&TokenRow { user_id: owner.as_str(), created: now })?;
        let key = SecretHash::of(token.as_str()).0;
        self.tables.tokens.insert(&key, row.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets an access token.
    pub fn remove_token(&mut self, token: &Token) -> Result<(), StoreError> {
        self.written += 1;
        self.removed = true;
        self.tables.tokens.remove(&SecretHash::of(token.as_str()).0).map_err(StoreError::new)?;
        Ok(())
    }

    /// Notes that an account accepted a version of a document.
    pub fn put_consent(
        &mut self,
        user: &UserId,
        document: &str,
        version: &str,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.written += 1;
        let row = encode(&ConsentRow { version, accepted: now })?;
        self.tables.consents.insert((user.as_str(), document), row.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Publishes an association: from here on, a lookup finds it.
    pub fn put_association(&mut self, association: &Association) -> Result<(), StoreError> {
        self.written += 1;
        let address = &association.address;
        let user_id = association.user_id.as_str();
        let row = encode(&AssociationRow { user_id: user_id.to_owned(), ts: association.ts.0 })?;
        let key = (address.medium().number(), address.as_str());
        let replaced = self.tables.associations.insert(key, row.as_slice()).map_err(StoreError::new)?;
        self.removed |= replaced.is_some();
        drop(replaced);
        let hash = LookupHash::of(address, &self.tables.pepper.text);
        self.tables.lookup_index.insert(&hash.0, encode(&user_id)?.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Withdraws the association of an address: from here on, no lookup finds it.
    pub fn remove_association(&mut self, address: &Address) -> Result<(), StoreError> {
        self.written += 1;
        self.removed = true;
        self.tables
            .associations
            .remove((address.medium().number(), address.as_str()))
            .map_err(StoreError::new)?;
        self.tables
            .lookup_index
            .remove(&LookupHash::of(address, &self.tables.pepper.text).0)
            .map_err(StoreError::new)?;
        Ok(())
    }
}
