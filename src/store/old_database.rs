//! What a replaced database still knows of removals, for a restore: it may be damaged, of another schema, or not
//! closed.
//!
//! Its file is never changed. What cannot be read is left out, and [`OldDatabase::is_whole`] says so.

use std::{
    collections::BTreeMap,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::{
    OpenError, SCHEMA, StoreError, Tables,
    backup::Overlay,
    codec::decode,
    table::Transaction,
    tables::{AUDIT, META, SUPPRESSED},
};
use crate::domain::{
    audit::Entry,
    ids::Token,
    secret::{Key32, SecretHash},
    time::Millis,
};

/// The page cache while it is read.
const READ_CACHE_BYTES: usize = 16 << 20;

/// A database that a restore replaces.
pub struct OldDatabase {
    /// The key of its keyed hashes. Another database has another key.
    pub session_key: Key32,
    /// The entries of its audit, by number.
    pub audit: BTreeMap<u64, Entry>,
    /// The keyed hashes of the addresses that opted out, and since when.
    pub suppressed: BTreeMap<[u8; 32], Millis>,
    /// Every table, if every page has the right checksum.
    tables: Option<Tables<ReadTransaction>>,
    _database: Database,
}

impl OldDatabase {
    /// Reads the file. `None` if nothing in it can be read.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn read(path: &Path) -> Result<Option<Self>, OpenError> {
        let open = || {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok(Overlay::over(file, len))
        };
        let read = |is_whole| {
            let overlay: Overlay = open().map_err(OpenError::at(path))?;
            // redb may panic on a damaged file.
            let read = catch_unwind(AssertUnwindSafe(|| read_from(overlay, is_whole)));
            Ok::<_, OpenError>(read.ok().and_then(Result::ok))
        };
        Ok(match read(true)? {
            Some(whole) => Some(whole),
            None => read(false)?,
        })
    }

    /// Whether every row of it can be read, so that a missing row was removed and not lost.
    pub fn is_whole(&self) -> bool {
        self.tables.is_some()
    }

    /// Whether it is known that the access token was removed.
    pub fn has_removed_token(&self, hash: SecretHash) -> Result<bool, StoreError> {
        Ok(match &self.tables {
            Some(tables) => !tables.has_token(hash)?,
            None => false,
        })
    }

    /// Whether the invitation is known to be still there.
    pub fn has_invitation(&self, token: &Token) -> Result<bool, StoreError> {
        Ok(match &self.tables {
            Some(tables) => tables.invitation(token)?.is_some(),
            None => false,
        })
    }
}

fn read_from(overlay: Overlay, is_whole: bool) -> Result<OldDatabase, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(READ_CACHE_BYTES).set_check_integrity_on_open(is_whole);
    let database = builder.create_with_backend(overlay)?;
    let transaction = database.begin_read()?;
    let meta = transaction.open(META)?;
    let fact = |name| meta.get(name)?.ok_or(StoreError::Inconsistent("the table meta lacks a fact"));
    let session_key = decode(fact("session_key")?.value())?;
    let is_current = decode::<u32>(fact("schema")?.value())? == SCHEMA;
    let tables = (is_whole && is_current).then(|| Tables::open(&transaction)).transpose()?;
    let audit = readable(|visit| {
        for row in transaction.open(AUDIT)?.iter()?.rev() {
            let (number, entry) = row?;
            visit(number.value(), decode(entry.value()));
        }
        Ok(())
    });
    let suppressed = readable(|visit| {
        for row in transaction.open(SUPPRESSED)?.iter()? {
            let (hash, since) = row?;
            visit(*hash.value(), decode(since.value()));
        }
        Ok(())
    });
    Ok(OldDatabase { session_key, audit, suppressed, tables, _database: database })
}

/// The rows that can be read before the first that cannot. The audit is read from its end, where the latest are.
fn readable<K: Ord, V>(
    read: impl FnOnce(&mut dyn FnMut(K, Result<V, StoreError>)) -> Result<(), StoreError>,
) -> BTreeMap<K, V> {
    let mut rows = BTreeMap::new();
    let mut visit = |key, value: Result<V, StoreError>| {
        if let Ok(value) = value {
            rows.insert(key, value);
        }
    };
    // A panic or an error ends the reading; what was read before counts.
    let _ = catch_unwind(AssertUnwindSafe(|| read(&mut visit)));
    rows
}
