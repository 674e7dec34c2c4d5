//! The rewrite: copies the live rows into a new file, which replaces the old one (design, section 3, "Physical
//! deletion").
//!
//! redb is copy-on-write, so the file holds the bytes of a removed row until then. A crash at any moment leaves
//! one good file. `ops::retention` decides when a rewrite is due.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableHandle, Value, WriteTransaction,
};

use super::{
    StoreError, builder_noticing_repair,
    codec::encode,
    lookup_index::each_index,
    progress,
    table::{Definition, EachTable},
    tables::{META, PEPPERS, each_table},
};
use crate::domain::time::Millis;

/// The page cache of the new file during the copy.
const COPY_CACHE_BYTES: usize = 32 << 20;

/// The path of the new file.
pub fn new_file(path: &Path) -> PathBuf {
    path.with_extension("redb.new")
}

/// A copy that can replace the database. It holds every descriptor that this needs.
pub struct Replacement {
    /// The copy.
    pub database: Database,
    path: PathBuf,
    directory: File,
}

/// Copies the live rows of `old`, whose file is at `path`, into a new file beside it, and compares both.
///
/// # Errors
/// If the disk fails, the copy differs, or the process has too few descriptors. The new file is removed then, and the
/// old one is unchanged.
pub fn copy(old: &Database, path: &Path, cache: usize, now: Millis) -> Result<Replacement, StoreError> {
    let new_path = new_file(path);
    let new = copy_and_compare(old, &new_path, now).and_then(|()| {
        // redb says nothing if closing the copy failed.
        File::open(&new_path)?.sync_all()?;
        // Reopened, because the copy filled its page cache.
        let (mut builder, needed_repair) = builder_noticing_repair();
        let database = builder.set_cache_size(cache).open(&new_path)?;
        if needed_repair.get() {
            return Err(StoreError::Inconsistent("the rewritten file was not closed"));
        }
        Ok(Replacement { database, path: path.to_owned(), directory: open_directory(path)? })
    });
    if new.is_err() {
        let _ = fs::remove_file(&new_path);
    }
    new
}

impl Replacement {
    /// Renames the new file over the old one.
    ///
    /// # Errors
    /// If it is uncertain which of the two files a crash would leave. Then write to neither before the database is
    /// opened again.
    pub fn put_in_place(self) -> Result<Database, StoreError> {
        fs::rename(new_file(&self.path), &self.path)?;
        self.directory.sync_all()?;
        Ok(self.database)
    }
}

/// fsyncs the directory of the file at `path`.
pub fn sync_directory(path: &Path) -> Result<(), StoreError> {
    Ok(open_directory(path)?.sync_all()?)
}

fn open_directory(path: &Path) -> std::io::Result<File> {
    File::open(path.parent().unwrap_or(Path::new(".")))
}

fn copy_and_compare(old: &Database, new_path: &Path, now: Millis) -> Result<(), StoreError> {
    remove_if_there(new_path)?;
    OpenOptions::new().create_new(true).append(true).mode(0o600).open(new_path)?;
    let new = Database::builder().set_cache_size(COPY_CACHE_BYTES).create(new_path)?;
    let from = old.begin_read()?;
    let to = new.begin_write()?;
    let mut copy = Copy { from: &from, to: &to, names: BTreeSet::new() };
    for_each_table(&from, &mut copy)?;
    let copied = copy.names;
    put_rewrite_time(&to, now)?;
    to.commit()?;
    progress::step();
    // A table that is missing from `each_table` must not be lost.
    let there = from.list_tables()?.map(|table| table.name().to_owned());
    if there.collect::<BTreeSet<_>>() != copied {
        return Err(StoreError::Inconsistent("the rewrite does not know every table"));
    }
    let made = new.begin_read()?;
    for_each_table(&from, &mut Compare { one: &from, other: &made })
}

fn for_each_table(from: &ReadTransaction, action: &mut impl EachTable) -> Result<(), StoreError> {
    each_table(action)?;
    each_index(&from.open_table(PEPPERS.redb())?, action)
}

/// Records in the new file that it holds no removed bytes.
fn put_rewrite_time(to: &WriteTransaction, now: Millis) -> Result<(), StoreError> {
    let mut meta = to.open_table(META.redb())?;
    meta.remove("removed")?;
    meta.insert("rewritten", encode(&now)?.as_slice())?;
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
        table: Definition<'_, K, V>,
    ) -> Result<(), StoreError> {
        self.names.insert(table.redb().name().to_owned());
        let from = self.from.open_table(table.redb())?;
        let mut to = self.to.open_table(table.redb())?;
        for row in from.iter()? {
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
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
        table: Definition<'_, K, V>,
    ) -> Result<(), StoreError> {
        // The rewrite itself changes this table.
        if table.redb().name() == META.redb().name() {
            return Ok(());
        }
        let one = self.one.open_table(table.redb())?;
        let other = self.other.open_table(table.redb())?;
        let (mut ones, mut others) = (one.iter()?, other.iter()?);
        loop {
            progress::step();
            let same = match (ones.next(), others.next()) {
                (None, None) => return Ok(()),
                (Some(one), Some(other)) => {
                    let (one, other) = (one?, other?);
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
                return Err(StoreError::Inconsistent("the copy differs from the database"));
            }
        }
    }
}

/// Removes a file beside the database, if there is one.
///
/// # Errors
/// If it exists and cannot be removed.
pub fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use redb::TableDefinition;

    use super::*;

    #[test]
    fn a_table_that_is_not_in_the_list_is_not_lost() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("bindery.redb");
        let old = Database::create(&path).expect("a database");
        let transaction = old.begin_write().expect("a transaction");
        each_table(&mut Create(&transaction)).expect("created");
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
            table: Definition<'_, K, V>,
        ) -> Result<(), StoreError> {
            self.0.open_table(table.redb())?;
            Ok(())
        }
    }
}
