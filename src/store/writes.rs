//! The tables inside a write transaction, and what the transaction has to know of its changes.
//!
//! The methods that write are with those that read the same rows; each keeps the tables consistent
//! with each other, so that no caller can forget an index.

use std::ops::Deref;

use redb::{Database, WriteTransaction};

use super::{StoreError, codec::encode, tables::Tables};
use crate::domain::time::Millis;

/// The tables inside a write transaction.
pub struct Writes<'txn> {
    pub(super) transaction: &'txn WriteTransaction,
    pub(super) tables: Tables<&'txn WriteTransaction>,
    pub(super) written: u64,
    /// Whether the file may hold bytes that must not stay: of a row that was removed, or of a write that was
    /// never committed.
    pub(super) removed: bool,
    /// Whether a token or a consent was removed or replaced: what was found out of access tokens before may
    /// be wrong.
    pub(super) revoked: bool,
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
        Ok(Self {
            transaction,
            tables: Tables::open(&transaction)?,
            written: 0,
            removed: false,
            revoked: false,
        })
    }

    /// Notes what the rewrite has to know of this transaction.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if self.removed && !self.has_removed()? {
            // Whoever removes brings no clock; the last round was not after this.
            let since = self.last_round()?.unwrap_or(Millis(0));
            self.put_time("removed", since)?;
        }
        Ok(())
    }

    /// Notes when a round of retention was begun.
    pub fn put_round(&mut self, begun: Millis) -> Result<(), StoreError> {
        self.written += 1;
        self.put_time("round", begun)
    }

    /// Notes when a round of retention was begun that looked at tokens and consents too.
    pub fn put_round_of_accounts(&mut self, begun: Millis) -> Result<(), StoreError> {
        self.written += 1;
        self.put_time("accounts_round", begun)
    }

    fn put_time(&mut self, fact: &str, time: Millis) -> Result<(), StoreError> {
        self.tables.meta.insert(fact, encode(&time)?.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// How many methods that write were called.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

/// Marks, in a transaction of its own, that the file may hold what was never committed.
pub(super) fn mark_uncommitted(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(StoreError::new)?;
    let mut tables = Writes::open(&transaction)?;
    tables.removed = true;
    tables.finish()?;
    drop(tables);
    transaction.commit().map_err(StoreError::new)
}
