//! Reading a database without changing anything about it, for commands that only want to know.

use std::{ops::Deref, path::Path};

use redb::{ReadOnlyDatabase, ReadTransaction, ReadableDatabase};

use super::{DATABASE_FILE, OpenError, SCHEMA, StoreError, Tables, codec::decode, tables::META};

/// A database that is only read.
pub struct Look {
    tables: Tables<ReadTransaction>,
    _database: ReadOnlyDatabase,
}

impl Look {
    /// Opens the database in `dir`; `None` if there is none. It must not be in use.
    ///
    /// # Errors
    /// If it is of another schema, was not closed well, or cannot be read.
    pub fn at(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(DATABASE_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let database = ReadOnlyDatabase::open(path).map_err(StoreError::new)?;
        let transaction = database.begin_read().map_err(StoreError::new)?;
        match schema(&transaction)? {
            SCHEMA => Ok(Some(Self { tables: Tables::open(&transaction)?, _database: database })),
            newer @ SCHEMA.. => Err(OpenError::NewerSchema(newer, SCHEMA)),
            _ => Err(StoreError::new("it is of an earlier version, and the next start brings it up to date")
                .into()),
        }
    }
}

fn schema(transaction: &ReadTransaction) -> Result<u32, StoreError> {
    let meta = transaction.open_table(META).map_err(StoreError::new)?;
    let row = meta.get("schema").map_err(StoreError::new)?;
    decode(row.ok_or_else(|| StoreError::new("the database does not say of what schema it is"))?.value())
}

impl Deref for Look {
    type Target = Tables<ReadTransaction>;

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}
