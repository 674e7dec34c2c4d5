//! The definition of a table, and how the two kinds of transaction open it.

use std::ops::Deref;

use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, Value};

use super::StoreError;

/// What the rows of a table are about. This decides what the writer does after a change.
#[derive(Clone, Copy)]
pub enum Holds {
    /// The server itself. Removed bytes may stay in the file.
    Server,
    /// People. The bytes of a removed row must leave the file.
    People,
    /// Access tokens. As `People`, and a removal revokes one.
    Tokens,
    /// Consents. As `People`, and a removal or a replacement revokes one.
    Consents,
    /// The outbox. As `People`, and an insert wakes the task that sends.
    Queue,
}

/// Whether backups carry the rows of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum InBackup {
    /// A restored server needs them.
    Yes,
    /// They expire within a week, or a restored server makes them again. In a backup the table is empty.
    No,
}

/// The definition of a table: its name, the types of its rows, what they are about, and whether backups carry them.
#[derive(Clone, Copy)]
pub struct Definition<'a, K: Key + 'static, V: Value + 'static> {
    redb: TableDefinition<'a, K, V>,
    holds: Holds,
    in_backup: InBackup,
}

impl<'a, K: Key + 'static, V: Value + 'static> Definition<'a, K, V> {
    pub(super) const fn new(name: &'a str, holds: Holds, in_backup: InBackup) -> Self {
        Self { redb: TableDefinition::new(name), holds, in_backup }
    }

    pub(super) fn redb(&self) -> TableDefinition<'a, K, V> {
        self.redb
    }

    pub(super) fn holds(&self) -> Holds {
        self.holds
    }

    pub(super) fn is_in_backup(&self) -> bool {
        self.in_backup == InBackup::Yes
    }
}

/// A read or a write transaction, which opens tables of its own kind.
pub trait Transaction {
    /// The type of redb that reads the table.
    type Table<K: Key + 'static, V: Value + 'static>: ReadableTable<K, V>;
    /// An open table.
    type Open<K: Key + 'static, V: Value + 'static>: Deref<Target = Self::Table<K, V>>;

    /// Opens a table.
    fn open<K: Key + 'static, V: Value + 'static>(
        &self,
        table: Definition<'_, K, V>,
    ) -> Result<Self::Open<K, V>, StoreError>;
}

/// An open table of a read transaction.
pub struct ReadTable<K: Key + 'static, V: Value + 'static>(ReadOnlyTable<K, V>);

impl<K: Key + 'static, V: Value + 'static> Deref for ReadTable<K, V> {
    type Target = ReadOnlyTable<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Transaction for ReadTransaction {
    type Table<K: Key + 'static, V: Value + 'static> = ReadOnlyTable<K, V>;
    type Open<K: Key + 'static, V: Value + 'static> = ReadTable<K, V>;

    fn open<K: Key + 'static, V: Value + 'static>(
        &self,
        table: Definition<'_, K, V>,
    ) -> Result<Self::Open<K, V>, StoreError> {
        Ok(ReadTable(self.open_table(table.redb())?))
    }
}

/// An action on every table, of any type.
pub(super) trait EachTable {
    /// Runs the action on one table.
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: Definition<'_, K, V>,
    ) -> Result<(), StoreError>;
}
