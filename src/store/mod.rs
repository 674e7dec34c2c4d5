//! The database: one redb file, one thread that writes it, one published snapshot to read from.
//!
//! This is the only layer that names redb, and `codec` in it the only file that names the codec.
//! It keeps what it is given and decides nothing about who may do what.

mod accounts;
mod associations;
mod audit;
mod budgets;
mod codec;
mod invitations;
mod lock;
mod look;
mod migrations;
mod notices;
mod outbox;
mod peppers;
mod progress;
mod rewrite;
mod rows;
mod sent;
mod sessions;
mod suppressions;
mod tables;
mod unreadable;
mod visits;
mod writer;
mod writes;

use std::{
    cell::Cell,
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use redb::{Builder, Database, StorageBackend};

pub use redb::ReadTransaction;

pub use self::{
    accounts::{Consent, StoredToken},
    look::Look,
    migrations::SCHEMA,
    peppers::{Index, Reached},
    progress::steps_done,
    tables::{Counts, Snapshot, Tables, Transaction},
    writer::{MAX_BATCH, WRITER_PART},
    writes::Writes,
};
use crate::domain::{secret::Key32, server_name::ServerName, time::Millis};

/// The file name of the database in the data directory.
pub const DATABASE_FILE: &str = "bindery.redb";

/// Something went wrong that is nobody's request: a failing disk, a full disk, a damaged file, a
/// bug. The text is for the operator's log and never for a caller.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(Arc<str>);

impl StoreError {
    /// An error in these words.
    pub(crate) fn new(what: impl std::fmt::Display) -> Self {
        Self(what.to_string().into())
    }
}

/// Why a data directory could not be opened, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves this directory.
    #[error(
        "the data directory {0} is in use by {1}; stop that one first, or give this one a directory of its own (data_dir)"
    )]
    InUse(PathBuf, String),
    /// The file system says no.
    #[error("cannot use the data directory {0}: {1}")]
    Directory(PathBuf, std::io::Error),
    /// The database belongs to another name.
    #[error(
        "the database belongs to the server name {stored}, and the configuration says {configured}: put the name back, or give the new server a data directory of its own"
    )]
    OtherServerName {
        /// The name in the database.
        stored: String,
        /// The name in the configuration.
        configured: String,
    },
    /// The database was written by a later version.
    #[error(
        "the database has schema {0} and this Bindery knows schemas up to {1}: use the version that wrote it, or a later one"
    )]
    NewerSchema(u32, u32),
    /// The database is damaged or the disk fails.
    #[error("cannot open the database: {0}")]
    Store(#[from] StoreError),
}

/// What a new database starts with.
pub struct Genesis {
    /// The seed of the signing key `ed25519:0`.
    pub signing_seed: Key32,
    /// The first lookup pepper.
    pub pepper: String,
    /// The key under which session tokens and index entries are hashed.
    pub session_key: Key32,
    /// The time of creation.
    pub now: Millis,
}

/// What opens a database, and whether that one had to be repaired, because it was not closed: the file may
/// hold what was being written then and never committed.
fn builder_noticing_repair() -> (Builder, Rc<Cell<bool>>) {
    let (mut builder, needed_repair) = (Database::builder(), Rc::new(Cell::new(false)));
    let seen = needed_repair.clone();
    builder.set_repair_callback(move |_| {
        seen.set(true);
        progress::step();
    });
    (builder, needed_repair)
}

/// The open database.
pub struct Store {
    writer: writer::Writer,
    published: Arc<ArcSwap<Snapshot>>,
    path: Option<PathBuf>,
    _lock: Option<lock::Lock>,
}

impl Store {
    /// Opens the database in `dir`, creating both if they are not there (the directory with mode
    /// 0700), and takes the directory's lock for as long as the store lives.
    ///
    /// `cache_bytes` bounds the memory that redb uses for pages.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        dir: &Path,
        cache_bytes: usize,
        name: &ServerName,
        genesis: impl FnOnce() -> Genesis,
    ) -> Result<Self, OpenError> {
        let at_dir = |error| OpenError::Directory(dir.to_owned(), error);
        if !dir.exists() {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(at_dir)?;
        }
        let lock = lock::Lock::take(dir)?;
        // A directory that others may read would undo every other protection (design, P19).
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(at_dir)?;
        let path = dir.join(DATABASE_FILE);
        rewrite::remove_if_there(&rewrite::new_file(&path))?;
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(at_dir)?;
        let (mut builder, needed_repair) = builder_noticing_repair();
        let database = builder.set_cache_size(cache_bytes).create(&path).map_err(StoreError::new)?;
        let place = writer::Place { path, cache: cache_bytes };
        Self::start(database, Some(place), Some(lock), needed_repair.get(), name, genesis)
    }

    /// Opens a database on any storage, for tests that need to break it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn on_backend(
        backend: impl StorageBackend,
        name: &ServerName,
        genesis: impl FnOnce() -> Genesis,
    ) -> Result<Self, OpenError> {
        let (builder, needed_repair) = builder_noticing_repair();
        let database = builder.create_with_backend(backend).map_err(StoreError::new)?;
        Self::start(database, None, None, needed_repair.get(), name, genesis)
    }

    fn start(
        database: Database,
        place: Option<writer::Place>,
        lock: Option<lock::Lock>,
        needed_repair: bool,
        name: &ServerName,
        genesis: impl FnOnce() -> Genesis,
    ) -> Result<Self, OpenError> {
        let path = place.as_ref().map(|place| place.path.clone());
        migrations::bring_up_to_date(&database, path.as_deref(), migrations::ALL, name, genesis)?;
        for (copy, _) in path.as_deref().map(rewrite::old_copies).unwrap_or_default() {
            let copy = copy.display();
            tracing::info!(%copy, "the database from before an update is kept for a week at most; it holds personal data");
        }
        if needed_repair {
            writes::mark_uncommitted(&database)?;
        }
        let database = Arc::new(database);
        let published = Arc::new(ArcSwap::from_pointee(Snapshot::take(&database, 0)?));
        let writer = writer::Writer::start(database, place, published.clone())?;
        Ok(Self { writer, published, path, _lock: lock })
    }

    /// The state after the latest commit. Hold it for a request, never longer.
    pub fn read(&self) -> Guard<Arc<Snapshot>> {
        self.published.load()
    }

    /// Runs `work` in a write transaction, together with whatever else is waiting, and answers
    /// once that is durable on disk.
    ///
    /// `work` must check first and write afterwards: what it returns is an answer whatever it
    /// says. If it fails before writing anything, only its caller hears so; if it fails after, the
    /// batch it is in is undone.
    ///
    /// # Errors
    /// If `work` fails, if the disk does, or if another closure of the batch failed after writing.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(work).await
    }

    /// Writes the live rows into a new file, which takes the place of the old one: what was removed
    /// is then in no file any more. Readers do not wait; writers do.
    ///
    /// # Errors
    /// If the disk fails; the database is as it was then.
    pub async fn rewrite(&self, now: Millis) -> Result<(), StoreError> {
        self.writer.rewrite(now).await
    }

    /// Waits until the writing thread takes an empty job: no transaction, no fsync. While it rewrites the file
    /// it takes none, but [`steps_done`] grows.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn check_writer(&self) -> Result<(), StoreError> {
        self.writer.check().await
    }

    /// When the copies were made that lie around since migrations.
    pub fn old_copies(&self) -> Vec<Millis> {
        let copies = self.path.as_deref().map(rewrite::old_copies).unwrap_or_default();
        copies.into_iter().map(|(_, made)| made).collect()
    }

    /// Removes the copies that migrations have made, once they have lain around for as long as `kept`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remove_old_copies(&self, kept: Duration, now: Millis) -> Result<(), StoreError> {
        self.path.as_deref().map_or(Ok(()), |path| rewrite::remove_old_copies(path, kept, now))
    }

    /// Waits until the database takes no more writes, because the disk failed or is full, or because the
    /// writing thread ended. Opening it again mends that.
    pub async fn broken(&self) {
        self.writer.broken().await;
    }
}
