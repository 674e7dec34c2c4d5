//! The tables inside a write transaction, and what the transaction has to know of its changes.
//!
//! The methods that write are with those that read the same rows; each keeps the tables consistent
//! with each other, so that no caller can forget an index.

use std::ops::Deref;

use redb::WriteTransaction;

use super::{StoreError, codec::encode, tables::Tables};
use crate::domain::time::Millis;

/// The tables inside a write transaction.
pub struct Writes<'txn> {
    pub(super) transaction: &'txn WriteTransaction,
    pub(super) tables: Tables<&'txn WriteTransaction>,
    pub(super) written: u64,
    /// Whether something personal was removed, whose bytes are in the file until it is rewritten.
    pub(super) removed: bool,
    /// Whether something was taken from an account that a login rests on: a token, or a consent.
    pub(super) loosened: bool,
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
            loosened: false,
        })
    }

    /// Notes what the rewrite has to know of this transaction.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if self.removed && !self.has_removed()? {
            // Whoever removes brings no clock; the last round was not after this.
            let since = self.last_round()?.unwrap_or(Millis(0));
            self.tables.meta.insert("removed", encode(&since)?.as_slice()).map_err(StoreError::new)?;
        }
        Ok(())
    }

    /// Notes when a round of retention was begun.
    pub fn put_round(&mut self, begun: Millis) -> Result<(), StoreError> {
        self.written += 1;
        self.tables.meta.insert("round", encode(&begun)?.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// How many methods that write were called.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}
