//! Deleting what was deleted: the live rows are copied into a new file, which takes the old one's
//! place (design, section 3, "Physical deletion").
//!
//! The database writes changed pages elsewhere and leaves the old bytes where they were, so a row
//! that is gone is still in the file until then. A crash at any moment leaves one good file. When
//! that has to be is decided above.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, Value,
    WriteTransaction,
};

use super::{
    StoreError,
    codec::encode,
    progress,
    tables::{EachTable, META, PEPPERS, each_table},
};
use crate::domain::time::{Millis, as_millis};

/// How much memory the copying may use to remember pages of the new file.
const COPYING_CACHE: usize = 32 << 20;

/// Where the new file is made.
pub fn new_file(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

/// Copies the live rows of `old`, which lies at `path`, into a new file beside it.
///
/// # Errors
/// If the disk fails or the copy differs; the new file is gone then and the old one as it was.
pub fn copy(old: &Database, path: &Path, cache: usize, now: Millis) -> Result<Database, StoreError> {
    let new_path = new_file(path);
    let made = make(old, &new_path, now).and_then(|()| {
        // Opened again, it holds no page of the copying in memory.
        Database::builder().set_cache_size(cache).open(&new_path).map_err(StoreError::new)
    });
    if made.is_err() {
        let _ = fs::remove_file(&new_path);
    }
    made
}

/// Puts the new file in the place of the one at `path`.
///
/// # Errors
/// If it is not certain which of the two a crash would leave: nothing may be written to either
/// until the database was opened again.
pub fn put_in_place(path: &Path) -> Result<(), StoreError> {
    fs::rename(new_file(path), path).map_err(StoreError::new)?;
    sync_directory(path)
}

/// Has the disk know what is in the directory of the file at `path`.
pub fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(StoreError::new)
}

fn make(old: &Database, new_path: &Path, now: Millis) -> Result<(), StoreError> {
    remove_if_there(new_path)?;
    OpenOptions::new().create_new(true).append(true).mode(0o600).open(new_path).map_err(StoreError::new)?;
    let new = Database::builder().set_cache_size(COPYING_CACHE).create(new_path).map_err(StoreError::new)?;
    let from = old.begin_read().map_err(StoreError::new)?;
    let peppers = peppers(&from)?;
    let to = new.begin_write().map_err(StoreError::new)?;
    let mut copy = Copy { from: &from, to: &to, names: BTreeSet::new() };
    each_table(peppers.iter().copied(), &mut copy)?;
    let copied = copy.names;
    note(&to, now)?;
    to.commit().map_err(StoreError::new)?;
    // A table that nobody has added to the list must not be lost.
    let there = from.list_tables().map_err(StoreError::new)?.map(|table| table.name().to_owned());
    if there.collect::<BTreeSet<_>>() != copied {
        return Err(StoreError::new("the rewrite does not know every table"));
    }
    let made = new.begin_read().map_err(StoreError::new)?;
    each_table(peppers, &mut Compare { one: &from, other: &made })
}

fn peppers(from: &ReadTransaction) -> Result<Vec<u64>, StoreError> {
    let table = from.open_table(PEPPERS).map_err(StoreError::new)?;
    let numbers = table.iter().map_err(StoreError::new)?;
    numbers.map(|row| row.map(|(number, _)| number.value()).map_err(StoreError::new)).collect()
}

/// From here on, nothing that was removed is in the file.
fn note(to: &WriteTransaction, now: Millis) -> Result<(), StoreError> {
    let mut meta = to.open_table(META).map_err(StoreError::new)?;
    meta.remove("removed").map_err(StoreError::new)?;
    meta.insert("rewritten", encode(&now)?.as_slice()).map_err(StoreError::new)?;
    Ok(())
}

struct Copy<'a> {
    from: &'a ReadTransaction,
    to: &'a WriteTransaction,
    names: BTreeSet<String>,
}

impl EachTable for Copy<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<K, V>,
    ) -> Result<(), StoreError> {
        self.names.insert(definition.name().to_owned());
        let from = self.from.open_table(definition).map_err(StoreError::new)?;
        let mut to = self.to.open_table(definition).map_err(StoreError::new)?;
        for row in from.iter().map_err(StoreError::new)? {
            let (key, value) = row.map_err(StoreError::new)?;
            to.insert(key.value(), value.value()).map_err(StoreError::new)?;
            progress::step();
        }
        Ok(())
    }
}

struct Compare<'a> {
    one: &'a ReadTransaction,
    other: &'a ReadTransaction,
}

impl EachTable for Compare<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<K, V>,
    ) -> Result<(), StoreError> {
        // The rewrite has just changed what this one says.
        if definition.name() == META.name() {
            return Ok(());
        }
        let one = self.one.open_table(definition).map_err(StoreError::new)?;
        let other = self.other.open_table(definition).map_err(StoreError::new)?;
        let (mut ones, mut others) =
            (one.iter().map_err(StoreError::new)?, other.iter().map_err(StoreError::new)?);
        loop {
            let same = match (ones.next(), others.next()) {
                (None, None) => return Ok(()),
                (Some(one), Some(other)) => {
                    progress::step();
                    let (one, other) = (one.map_err(StoreError::new)?, other.map_err(StoreError::new)?);
                    let is_same = |a: &[u8], b: &[u8]| a == b;
                    is_same(K::as_bytes(&one.0.value()).as_ref(), K::as_bytes(&other.0.value()).as_ref())
                        && is_same(
                            V::as_bytes(&one.1.value()).as_ref(),
                            V::as_bytes(&other.1.value()).as_ref(),
                        )
                }
                _ => false,
            };
            if !same {
                return Err(StoreError::new("the copy differs from the database"));
            }
        }
    }
}

/// Removes a file that lies beside the database.
///
/// # Errors
/// If it is there and cannot be removed.
pub fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::new(error)),
        _ => Ok(()),
    }
}

/// The copies of the database at `path` that migrations have made, and when each was.
pub fn old_copies(path: &Path) -> Vec<(PathBuf, Millis)> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let prefix = path.with_extension("redb.schema-");
    let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let copies = fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        let is_copy = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        let modified = entry.metadata().ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        is_copy.then(|| (entry.path(), Millis(as_millis(modified))))
    });
    copies.collect()
}

/// Removes the copies that migrations have made, once nobody will want to go back to them: they
/// hold what was deleted since. `kept` is how long each lies around.
///
/// # Errors
/// If one cannot be removed; the others are gone all the same.
pub fn remove_old_copies(path: &Path, kept: Duration, now: Millis) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    for (copy, _) in old_copies(path).into_iter().filter(|(_, made)| now >= made.after(kept)) {
        outcome = outcome.and(remove_if_there(&copy));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_not_in_the_list_is_not_lost() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("bindery.redb");
        let old = Database::create(&path).expect("a database");
        let transaction = old.begin_write().expect("a transaction");
        each_table([], &mut Create(&transaction)).expect("created");
        transaction.commit().expect("committed");
        copy(&old, &path, 0, Millis(1)).expect("every table is known");
        let transaction = old.begin_write().expect("a transaction");
        transaction.open_table(TableDefinition::<u8, u8>::new("forgotten")).expect("created");
        transaction.commit().expect("committed");
        let Err(error) = copy(&old, &path, 0, Millis(1)) else { panic!("one is not known") };
        let error = error.to_string();
        assert!(error.contains("every table"), "{error}");
        assert!(!new_file(&path).exists());
    }

    struct Create<'a>(&'a WriteTransaction);

    impl EachTable for Create<'_> {
        fn table<K: Key + 'static, V: Value + 'static>(
            &mut self,
            definition: TableDefinition<K, V>,
        ) -> Result<(), StoreError> {
            self.0.open_table(definition).map(drop).map_err(StoreError::new)
        }
    }
}
