//! Backups: a file with the live rows of one snapshot, in a redb database of its own with a trailer.
//!
//! A crash at any moment leaves the earlier file or the new one. [`super::table::InBackup`] says of each table whether
//! backups carry its rows. [`restore`] makes a database of a backup again.

mod check;
mod directory;
mod error;
mod overlay;
pub mod restore;
mod trailer;

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use redb::{Database, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, Value, WriteTransaction};
use serde::{Deserialize, Serialize};

pub(super) use self::overlay::Overlay;
use self::trailer::Trailer;
pub use self::{
    check::{Contents, verify},
    directory::{Kept, list, path_in, remove_old},
    error::BackupError,
};
use super::{
    Snapshot, StoreError,
    codec::encode,
    lookup_index::each_index,
    rewrite::{remove_if_there, sync_directory},
    rows::outbox,
    table::{Definition, EachTable},
    tables::{META, OUTBOX, PEPPERS, each_table},
};
use crate::domain::{file_error::with_path, outbox::Payload, time::Millis};

/// The page cache of the new file.
const COPY_CACHE_BYTES: usize = 32 << 20;

/// The facts of `meta` that a backup carries. The others are about the file of the database.
const CARRIED_FACTS: [&str; 3] = ["schema", "server_name", "session_key"];

/// The fact of `meta` that only a backup has: a [`BackupRow`].
pub(super) const BACKUP_FACT: &str = "backup";

/// What a backup says of itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct BackupRow {
    made: Millis,
    /// How many mails were queued. They are not in the backup, and cannot be made again.
    queued_mails: u64,
}

/// How far a backup is. Shared with those who show it, and with those who stop it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Progress {
    /// How many rows are copied, of how many. The last row is followed by the check.
    pub fn rows(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Stops the backup at its next row.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// Makes a backup of the latest committed state into the file `path`, which it replaces only if that is a backup.
///
/// # Errors
/// If the file cannot be written. Then an earlier backup with this name is unchanged.
pub(super) fn write(
    snapshot: &Snapshot,
    path: &Path,
    now: Millis,
    progress: &Progress,
) -> Result<Contents, BackupError> {
    require_replaceable(path)?;
    let partial = partial(path);
    remove_if_there(&partial).map_err(BackupError::failed(path))?;
    let written = write_partial(snapshot, &partial, path, now, progress).and_then(|()| {
        let contents = verify(&partial)?;
        if progress.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        fs::rename(&partial, path).map_err(BackupError::unwritable(path))?;
        sync_directory(path).map_err(BackupError::failed(path))?;
        Ok(contents)
    });
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

/// The file that is written before it gets the name `path`. A crash leaves it; the next backup with this name, or
/// [`remove_old`], removes it.
fn partial(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

fn require_replaceable(path: &Path) -> Result<(), BackupError> {
    let is_replaceable = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(BackupError::unwritable(path)(error)),
        Ok(metadata) => metadata.is_file() && is_backup(path)?,
    };
    if is_replaceable { Ok(()) } else { Err(BackupError::Occupied(path.to_owned())) }
}

/// Whether the file ends as a backup does.
fn is_backup(path: &Path) -> Result<bool, BackupError> {
    let read = File::open(path).and_then(|file| Trailer::read(&file));
    Ok(read.map_err(with_path(path)).map_err(BackupError::File)?.is_some())
}

fn write_partial(
    snapshot: &Snapshot,
    partial: &Path,
    path: &Path,
    now: Millis,
    progress: &Progress,
) -> Result<(), BackupError> {
    let created = OpenOptions::new().create_new(true).append(true).mode(0o600).open(partial);
    created.map_err(BackupError::unwritable(path))?;
    match copy(snapshot, partial, now, progress) {
        Err(_) if progress.is_cancelled() => return Err(BackupError::Interrupted),
        copied => copied.map_err(BackupError::failed(path))?,
    }
    let finish = || {
        let mut file = OpenOptions::new().read(true).append(true).open(partial)?;
        Trailer::append(&mut file, now)?;
        file.sync_all()
    };
    finish().map_err(BackupError::unwritable(path))
}

fn copy(snapshot: &Snapshot, partial: &Path, now: Millis, progress: &Progress) -> Result<(), StoreError> {
    let from = snapshot.begin_read()?;
    let new = Database::builder().set_cache_size(COPY_CACHE_BYTES).create(partial)?;
    let to = new.begin_write()?;
    let mut count = Count { from: &from, rows: 0 };
    for_each_table(&from, &mut count)?;
    progress.done.store(0, Ordering::Relaxed);
    progress.total.store(count.rows, Ordering::Relaxed);
    for_each_table(&from, &mut Copy { from: &from, to: &to, progress })?;
    put_facts(&from, &to, now)?;
    to.commit()?;
    Ok(new.close()?)
}

fn for_each_table(from: &ReadTransaction, action: &mut impl EachTable) -> Result<(), StoreError> {
    each_table(action)?;
    each_index(&from.open_table(PEPPERS.redb())?, action)
}

fn put_facts(from: &ReadTransaction, to: &WriteTransaction, made: Millis) -> Result<(), StoreError> {
    let mut queued_mails = 0;
    for row in from.open_table(OUTBOX.redb())?.iter()? {
        let is_mail = outbox::read(row?.1.value())
            .is_ok_and(|row| matches!(row.payload, Payload::InvitationMail(_) | Payload::OwnerMail(_)));
        queued_mails += u64::from(is_mail);
    }
    let mut meta = to.open_table(META.redb())?;
    meta.retain(|fact, _| CARRIED_FACTS.contains(&fact))?;
    meta.insert(BACKUP_FACT, encode(&BackupRow { made, queued_mails })?.as_slice())?;
    Ok(())
}

/// Counts the rows that a backup carries.
struct Count<'a> {
    from: &'a ReadTransaction,
    rows: u64,
}

impl EachTable for Count<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: Definition<'_, K, V>,
    ) -> Result<(), StoreError> {
        if table.is_in_backup() {
            self.rows += self.from.open_table(table.redb())?.len()?;
        }
        Ok(())
    }
}

struct Copy<'a> {
    from: &'a ReadTransaction,
    to: &'a WriteTransaction,
    progress: &'a Progress,
}

impl EachTable for Copy<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: Definition<'_, K, V>,
    ) -> Result<(), StoreError> {
        // Also a table without rows must be there, because a snapshot opens every table.
        let mut to = self.to.open_table(table.redb())?;
        if !table.is_in_backup() {
            return Ok(());
        }
        for row in self.from.open_table(table.redb())?.iter()? {
            if self.progress.is_cancelled() {
                return Err(StoreError::Inconsistent("the backup was interrupted"));
            }
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
            self.progress.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
