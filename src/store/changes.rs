//! The tables of a write transaction, which record every change.
//!
//! The writer and the rewrite must know what a transaction changed. Every insert and removal goes through
//! [`WriteTable`], so no method can forget to record one.

use std::{borrow::Borrow, cell::Cell, ops::Deref, rc::Rc};

use redb::{AccessGuard, Key, Table, Value, WriteTransaction};

use super::{
    StoreError,
    table::{Definition, Holds, Transaction},
};

/// What a write transaction has changed so far.
#[derive(Default)]
pub struct Changes {
    /// How many rows were inserted or removed.
    count: Cell<u64>,
    /// Whether a row about people was removed, so that the file holds its bytes.
    has_removed: Cell<bool>,
    /// Whether a token or a consent was revoked, so that cached tokens are stale.
    has_revoked: Cell<bool>,
    /// Whether a row was put into the outbox.
    has_queued: Cell<bool>,
}

impl Changes {
    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }

    pub(super) fn has_removed(&self) -> bool {
        self.has_removed.get()
    }

    pub(super) fn has_revoked(&self) -> bool {
        self.has_revoked.get()
    }

    pub(super) fn has_queued(&self) -> bool {
        self.has_queued.get()
    }

    fn note_insert(&self, holds: Holds, is_replacement: bool) {
        self.count.update(|count| count + 1);
        match holds {
            Holds::Consents => self.has_revoked.update(|revoked| revoked | is_replacement),
            Holds::Queue => self.has_queued.set(true),
            Holds::Server | Holds::People | Holds::Tokens => {}
        }
    }

    fn note_removal(&self, holds: Holds) {
        self.count.update(|count| count + 1);
        match holds {
            Holds::Server => {}
            Holds::People | Holds::Queue => self.has_removed.set(true),
            Holds::Tokens | Holds::Consents => {
                self.has_removed.set(true);
                self.has_revoked.set(true);
            }
        }
    }
}

/// A write transaction and its changes.
pub struct Writing<'txn> {
    transaction: &'txn WriteTransaction,
    changes: Rc<Changes>,
}

impl<'txn> Writing<'txn> {
    pub(super) fn new(transaction: &'txn WriteTransaction) -> Self {
        Self { transaction, changes: Rc::default() }
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Deletes a table with all its rows. The table must not be open.
    pub(super) fn delete<K: Key + 'static, V: Value + 'static>(
        &self,
        table: Definition<'_, K, V>,
    ) -> Result<(), StoreError> {
        self.transaction.delete_table(table.redb())?;
        self.changes.note_removal(table.holds());
        Ok(())
    }
}

impl<'txn> Transaction for Writing<'txn> {
    type Table<K: Key + 'static, V: Value + 'static> = Table<'txn, K, V>;
    type Open<K: Key + 'static, V: Value + 'static> = WriteTable<'txn, K, V>;

    fn open<K: Key + 'static, V: Value + 'static>(
        &self,
        table: Definition<'_, K, V>,
    ) -> Result<Self::Open<K, V>, StoreError> {
        let (holds, changes) = (table.holds(), self.changes.clone());
        Ok(WriteTable { table: self.transaction.open_table(table.redb())?, holds, changes })
    }
}

/// An open table of a write transaction.
pub struct WriteTable<'txn, K: Key + 'static, V: Value + 'static> {
    table: Table<'txn, K, V>,
    holds: Holds,
    changes: Rc<Changes>,
}

impl<'txn, K: Key + 'static, V: Value + 'static> Deref for WriteTable<'txn, K, V> {
    type Target = Table<'txn, K, V>;

    fn deref(&self) -> &Self::Target {
        &self.table
    }
}

impl<K: Key + 'static, V: Value + 'static> WriteTable<'_, K, V> {
    /// Inserts a row. Returns the value that it replaced.
    pub(super) fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StoreError> {
        let replaced = self.table.insert(key, value)?;
        self.changes.note_insert(self.holds, replaced.is_some());
        Ok(replaced)
    }

    /// Removes a row. Returns its value, if there was one.
    pub(super) fn remove<'k>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StoreError> {
        let removed = self.table.remove(key)?;
        if removed.is_some() {
            self.changes.note_removal(self.holds);
        }
        Ok(removed)
    }

    /// Removes the rows for which `is_kept` is false. Returns how many.
    pub(super) fn retain(
        &mut self,
        mut is_kept: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> bool,
    ) -> Result<usize, StoreError> {
        let mut removed = 0;
        let retained = self.table.retain(|key, value| {
            let is_kept = is_kept(key, value);
            removed += usize::from(!is_kept);
            is_kept
        });
        // Also after an error: rows before it were removed.
        if removed > 0 {
            self.changes.note_removal(self.holds);
        }
        retained?;
        Ok(removed)
    }
}
