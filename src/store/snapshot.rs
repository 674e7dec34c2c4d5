//! A committed state, and the two ways to read it: the rows of one person from any thread, whole tables only
//! away from the request threads.

use std::{ops::Deref, sync::Arc};

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::{StoreError, tables::Tables};

/// A committed state, shared by all requests until the next commit. Its tables are opened once, because opening
/// a table costs half as much as reading a row.
pub struct Snapshot {
    tables: Tables<ReadTransaction>,
    authorization: u64,
    /// Keeps the database open for the tables, even after a rewrite has replaced it.
    database: Arc<Database>,
}

impl Snapshot {
    /// The latest committed state.
    pub(super) fn take(database: &Arc<Database>, authorization: u64) -> Result<Self, StoreError> {
        let tables = Tables::open(&database.begin_read()?)?;
        Ok(Self { tables, authorization, database: database.clone() })
    }

    /// A number that grows with every commit that revokes a token or a consent. While it is unchanged, cached
    /// tokens are valid.
    pub fn authorization(&self) -> u64 {
        self.authorization
    }

    /// A read transaction on the database of this state, for work that copies tables as they are.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        Ok(self.database.begin_read()?)
    }
}

impl Deref for Snapshot {
    type Target = Tables<ReadTransaction>;

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}

/// A state whose tables may be scanned. [`super::Store::scan`] passes it to work on the blocking pool.
pub struct Scan<'a>(&'a Tables<ReadTransaction>);

impl<'a> Scan<'a> {
    pub(super) fn of(tables: &'a Tables<ReadTransaction>) -> Self {
        Self(tables)
    }
}

impl Deref for Scan<'_> {
    type Target = Tables<ReadTransaction>;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}
