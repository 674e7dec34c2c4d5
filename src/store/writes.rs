//! What can be written, and only inside a write transaction.
//!
//! Each method keeps the tables consistent with each other, so that no caller can forget an index.

use std::ops::Deref;

use redb::WriteTransaction;

use super::{
    StoreError,
    codec::{decode, encode},
    rows::{AssociationRow, ConsentRow, SessionRow, TokenRow},
    tables::Tables,
};
use crate::domain::{
    association::Association,
    ids::{Sid, Token, UserId},
    lookup::LookupHash,
    secret::SecretHash,
    session::Session,
    threepid::Address,
    time::Millis,
};

/// The tables inside a write transaction.
pub struct Writes<'txn> {
    tables: Tables<&'txn WriteTransaction>,
    written: u64,
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
        Ok(Self { tables: Tables::open(&transaction)?, written: 0 })
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

    /// Stores a session and the index entry that leads to it, in place of the one that the entry
    /// led to before.
    pub fn put_indexed_session(
        &mut self,
        index: &[u8; 32],
        sid: &Sid,
        session: &Session,
    ) -> Result<(), StoreError> {
        self.written += 1;
        let previous = self
            .tables
            .session_index
            .insert(index, encode(&sid.as_str())?.as_slice())
            .map_err(StoreError::new)?;
        let previous: Option<String> = previous.map(|row| decode(row.value())).transpose()?;
        if let Some(previous) = previous.filter(|previous| previous != sid.as_str()) {
            self.tables.sessions.remove(previous.as_str()).map_err(StoreError::new)?;
        }
        self.put_session(sid, session)
    }

    /// Stores the changed state of a session.
    pub fn put_session(&mut self, sid: &Sid, session: &Session) -> Result<(), StoreError> {
        self.written += 1;
        let row = encode(&SessionRow::from(session))?;
        self.tables.sessions.insert(sid.as_str(), row.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Publishes an association: from here on, a lookup finds it.
    pub fn put_association(&mut self, association: &Association) -> Result<(), StoreError> {
        self.written += 1;
        let address = &association.address;
        let user_id = association.user_id.as_str();
        let row = encode(&AssociationRow { user_id: user_id.to_owned(), ts: association.ts.0 })?;
        let key = (address.medium().number(), address.as_str());
        self.tables.associations.insert(key, row.as_slice()).map_err(StoreError::new)?;
        let hash = LookupHash::of(address, &self.tables.pepper.text);
        self.tables.lookup_index.insert(&hash.0, encode(&user_id)?.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Withdraws the association of an address: from here on, no lookup finds it.
    pub fn remove_association(&mut self, address: &Address) -> Result<(), StoreError> {
        self.written += 1;
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
