//! One committed state, and the two ways to read it: rows of one person from anywhere, whole tables only away
//! from the threads that answer requests.

use std::{ops::Deref, sync::Arc};

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::{StoreError, tables::Tables};

/// One committed state, shared by every request until the next commit. Opening a table costs half a point read, so
/// it is done once for each commit.
pub struct Snapshot {
    tables: Tables<ReadTransaction>,
    authorization: u64,
    /// The tables need it open, also after a rewrite put another one in its place.
    _database: Arc<Database>,
}

impl Snapshot {
    /// The latest committed state.
    pub(super) fn take(database: &Arc<Database>, authorization: u64) -> Result<Self, StoreError> {
        let tables = Tables::open(&database.begin_read()?)?;
        Ok(Self { tables, authorization, _database: database.clone() })
    }

    /// A number that grows with every commit that revokes a token or a consent. While it is the same, what is cached
    /// about an access token is still true.
    pub fn authorization(&self) -> u64 {
        self.authorization
    }
}

impl Deref for Snapshot {
    type Target = Tables<ReadTransaction>;

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}

/// A state whose tables may be walked. [`super::Store::scan`] hands one out, on a thread of its own.
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
