//! Opens the database read-only, for commands that must not migrate, repair or create anything.

use std::{fs::File, path::Path};

use redb::{ReadOnlyDatabase, ReadTransaction, ReadableDatabase};

use super::{
    DATABASE_FILE, OpenError, SCHEMA, Scan, StoreError, codec::decode, is_missing, table::Transaction,
    tables::META, tables::Tables,
};

/// A database that was opened read-only, by a process that answers no requests.
pub struct ReadOnly {
    tables: Tables<ReadTransaction>,
    _database: ReadOnlyDatabase,
}

impl ReadOnly {
    /// Opens the database in `dir`. `None` if there is none. No other process may use it.
    ///
    /// # Errors
    /// If it has another schema, was not closed, or cannot be read.
    pub fn open(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(DATABASE_FILE);
        if is_missing(dir) {
            return Ok(None);
        }
        // redb's own error does not name the file.
        File::open(&path).map_err(OpenError::at(&path))?;
        let database = ReadOnlyDatabase::open(path)?;
        let transaction = database.begin_read()?;
        match schema(&transaction)? {
            SCHEMA => Ok(Some(Self { tables: Tables::open(&transaction)?, _database: database })),
            newer @ SCHEMA.. => Err(OpenError::NewerSchema(newer, SCHEMA)),
            older => Err(OpenError::OlderSchema(older, SCHEMA)),
        }
    }

    /// The tables, to be scanned.
    pub fn scan(&self) -> Scan<'_> {
        Scan::of(&self.tables)
    }
}

fn schema(transaction: &ReadTransaction) -> Result<u32, StoreError> {
    let meta = transaction.open(META)?;
    let row = meta.get("schema")?;
    let row = row.ok_or(StoreError::Inconsistent("the table meta lacks the schema"))?;
    decode(row.value())
}
