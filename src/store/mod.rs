//! The database: one redb file, one thread that writes it, and one published snapshot that requests read.
//!
//! This is the only layer that names redb, and its `codec` is the only file that names the codec. It stores
//! what it is given; `ops` decides who may do what.

mod changes;
mod codec;
mod corrupt_rows;
mod error;
mod job;
mod lock;
mod lookup_index;
mod migrations;
mod owner;
mod progress;
mod read_only;
mod rewrite;
mod rows;
mod snapshot;
mod table;
mod tables;
mod writer;
mod writes;

use std::{
    cell::Cell,
    fmt::Display,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
pub use redb::ReadTransaction;
use redb::{Builder, Database, StorageBackend};
use tokio::task::spawn_blocking;

use self::migrations::copies;
pub use self::{
    error::{OpenError, StoreError},
    lookup_index::Index,
    migrations::SCHEMA,
    owner::{group_name, name_of, require_own},
    progress::steps_done,
    read_only::ReadOnly,
    rows::{consent::AcceptedDocument, fact::Counts, pepper::FillCursor, token::StoredToken},
    snapshot::{Scan, Snapshot},
    table::Transaction,
    tables::Tables,
    writer::{MAX_BATCH, WRITER_PART},
    writes::Writes,
};
use crate::domain::{secret::Key32, server_name::ServerName, time::Millis};

/// The file name of the database in the data directory.
pub const DATABASE_FILE: &str = "bindery.redb";

/// The values that a new database is created with.
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

/// A builder that opens a database, and a flag that is set if the database needed repair because it was not
/// closed. Then the file may hold uncommitted bytes.
fn builder_noticing_repair() -> (Builder, Rc<Cell<bool>>) {
    let (mut builder, needed_repair) = (Database::builder(), Rc::new(Cell::new(false)));
    let seen = needed_repair.clone();
    builder.set_repair_callback(move |_| {
        seen.set(true);
        progress::step();
    });
    (builder, needed_repair)
}

/// Whether the data directory has no database, or only an empty file. If access is denied, it counts as having one.
pub fn is_missing(dir: &Path) -> bool {
    match fs::metadata(dir.join(DATABASE_FILE)) {
        Ok(file) => file.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The open database.
pub struct Store {
    writer: writer::Writer,
    published: Arc<ArcSwap<Snapshot>>,
    path: Option<PathBuf>,
    _lock: Option<lock::Lock>,
}

impl Store {
    /// Opens the database in `dir`, and takes the directory's lock until the store is dropped. Creates the
    /// directory (mode 0700) and the database if they do not exist.
    ///
    /// `cache_bytes` bounds the memory of redb's page cache.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        dir: &Path,
        cache_bytes: usize,
        name: &ServerName,
        genesis: impl FnOnce() -> Genesis,
    ) -> Result<Self, OpenError> {
        if !dir.exists() {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(OpenError::at(dir))?;
        }
        require_own(dir)?;
        let lock = lock::Lock::take(dir)?;
        // A directory that others can read would undo every other protection (design, P19).
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(OpenError::at(dir))?;
        let path = dir.join(DATABASE_FILE);
        rewrite::remove_if_there(&rewrite::new_file(&path))?;
        let opened = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        opened.map_err(OpenError::at(&path))?;
        let (mut builder, needed_repair) = builder_noticing_repair();
        let database = builder.set_cache_size(cache_bytes).create(&path)?;
        let file = writer::DatabaseFile { path, cache: cache_bytes };
        Self::start(database, Some(file), Some(lock), needed_repair.get(), name, genesis)
    }

    /// Opens a database on any storage backend, for tests that make it fail.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn on_backend(
        backend: impl StorageBackend,
        name: &ServerName,
        genesis: impl FnOnce() -> Genesis,
    ) -> Result<Self, OpenError> {
        let (builder, needed_repair) = builder_noticing_repair();
        let database = builder.create_with_backend(backend)?;
        Self::start(database, None, None, needed_repair.get(), name, genesis)
    }

    fn start(
        database: Database,
        file: Option<writer::DatabaseFile>,
        lock: Option<lock::Lock>,
        needed_repair: bool,
        name: &ServerName,
        genesis: impl FnOnce() -> Genesis,
    ) -> Result<Self, OpenError> {
        let path = file.as_ref().map(|file| file.path.clone());
        migrations::bring_up_to_date(&database, path.as_deref(), migrations::ALL, name, genesis)?;
        for (copy, _) in path.as_deref().map(copies::list).unwrap_or_default() {
            let copy = copy.display();
            tracing::info!(%copy, "a copy of the database from before an update is kept for a week at most; it holds personal data");
        }
        if needed_repair {
            writes::mark_uncommitted(&database)?;
        }
        let database = Arc::new(database);
        let published = Arc::new(ArcSwap::from_pointee(Snapshot::take(&database, 0)?));
        let writer = writer::Writer::start(database, file, published.clone())?;
        Ok(Self { writer, published, path, _lock: lock })
    }

    /// The latest committed state. Hold it during one request at most.
    pub fn read(&self) -> Guard<Arc<Snapshot>> {
        self.published.load()
    }

    /// Runs `work` on the blocking pool with the latest committed state, whose tables it may scan. `work` holds
    /// the snapshot, so it should be one bounded step.
    pub async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Scan<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let snapshot = self.published.load_full();
        let scanned = spawn_blocking(move || work(&Scan::of(&snapshot))).await;
        scanned.unwrap_or_else(|_| Err(StoreError::Inconsistent("a scan of a table panicked")))
    }

    /// Runs `work` in a write transaction together with other queued work, and returns after the fsync.
    ///
    /// `work` must check first and write afterwards. If it fails before its first change, only its caller gets
    /// an error. If it fails after a change, its whole batch is undone.
    ///
    /// # Errors
    /// If `work` or the disk fails, or if other work of the batch failed after a change.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(work).await
    }

    /// As [`Store::write`], for work with an error type of its own, such as refusals.
    pub async fn try_write<T, E>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Display + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Waits until a commit puts a row into the outbox. A commit between two calls is not missed.
    pub async fn outbox_changed(&self) {
        self.writer.outbox_changed().await;
    }

    /// Waits until the writer takes an empty job, which commits nothing. During a rewrite it takes none, but
    /// [`steps_done`] grows. `false` if it has stopped.
    pub async fn check_writer(&self) -> bool {
        self.writer.check().await
    }

    /// Rewrites the file: copies the live rows into a new file, which replaces the old one. After that, no file
    /// contains removed rows. Readers do not wait; writers do.
    ///
    /// # Errors
    /// If the disk fails. The database is unchanged then.
    pub async fn rewrite(&self, now: Millis) -> Result<(), StoreError> {
        self.writer.rewrite(now).await
    }

    /// When each copy of the database from before a migration was made.
    pub fn old_copies(&self) -> Vec<Millis> {
        let copies = self.path.as_deref().map(copies::list).unwrap_or_default();
        copies.into_iter().map(|(_, made)| made).collect()
    }

    /// Removes the copies from before migrations that are older than `kept`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remove_old_copies(&self, kept: Duration, now: Millis) -> Result<(), StoreError> {
        self.path.as_deref().map_or(Ok(()), |path| copies::remove_old(path, kept, now))
    }

    /// Waits until the store accepts no more writes, because the disk failed or is full, or the writer has
    /// stopped. A restart opens the database again.
    pub async fn failed(&self) {
        self.writer.failed().await;
    }
}
