//! The tables of a write transaction, and the marks that it leaves for the rewrite. The methods that write are
//! in `rows`.

use std::ops::Deref;

use redb::{Database, WriteTransaction};

use super::{
    StoreError,
    changes::{Changes, Writing},
    tables::Tables,
};

/// The tables inside a write transaction.
pub struct Writes<'txn> {
    pub(super) transaction: Writing<'txn>,
    pub(super) tables: Tables<Writing<'txn>>,
}

impl<'txn> Deref for Writes<'txn> {
    type Target = Tables<Writing<'txn>>;

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}

impl<'txn> Writes<'txn> {
    /// Opens every table of the transaction. Creates missing ones.
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, StoreError> {
        let transaction = Writing::new(transaction);
        let tables = Tables::open(&transaction)?;
        Ok(Self { transaction, tables })
    }

    /// The changes so far.
    pub(super) fn changes(&self) -> &Changes {
        self.transaction.changes()
    }

    /// Records for the rewrite if this transaction removed rows about people.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if self.changes().has_removed() { self.put_removed() } else { Ok(()) }
    }
}

/// Records, in a transaction of its own, that the file may hold uncommitted bytes.
pub(super) fn mark_uncommitted(database: &Database) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    let mut tables = Writes::open(&transaction)?;
    tables.put_removed()?;
    drop(tables);
    Ok(transaction.commit()?)
}
