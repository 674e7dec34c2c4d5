//! The database: one redb file, one thread that writes it, one published snapshot to read from.
//!
//! This is the only layer that names redb, and `codec` in it the only file that names the codec.
//! It keeps what it is given and decides nothing about who may do what.

mod changes;
mod codec;
mod corrupt_rows;
mod error;
mod job;
mod lock;
mod lookup_index;
mod migrations;
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
    fs,
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
    progress::Progress,
    read_only::ReadOnly,
    rows::{consent::AcceptedDocument, fact::Counts, pepper::FillCursor, token::StoredToken},
    snapshot::{Scan, Snapshot},
    table::Transaction,
    tables::Tables,
    writer::MAX_BATCH,
    writes::Writes,
};
use crate::domain::{secret::Key32, server_name::ServerName, time::Millis};

/// The file name of the database in the data directory.
pub const DATABASE_FILE: &str = "bindery.redb";

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
    builder.set_repair_callback(move |_| seen.set(true));
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
        let database = builder.set_cache_size(cache_bytes).create(&path)?;
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
        let database = builder.create_with_backend(backend)?;
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
        for (copy, _) in path.as_deref().map(copies::list).unwrap_or_default() {
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

    /// Runs `work` with the state after the latest commit, whose tables it may walk, on a thread where no request
    /// waits. It holds the snapshot, so it should be one bounded step.
    pub async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Scan<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let snapshot = self.published.load_full();
        let scanned = spawn_blocking(move || work(&Scan::of(&snapshot))).await;
        scanned.unwrap_or_else(|_| Err(StoreError::Inconsistent("a scan of a table panicked")))
    }

    /// Runs `work` in a write transaction together with other queued work, and answers once that is durable.
    ///
    /// `work` must check first and write afterwards. If it fails before it has changed anything, only its caller hears
    /// so; if it fails after, its whole batch is undone.
    ///
    /// # Errors
    /// If `work` fails, if the disk does, or if other work of the batch failed after it had changed something.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.write(work).await
    }

    /// As [`Store::write`], for work that fails in ways of its own, such as refusals.
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

    /// Waits until a commit has put something into the outbox. A commit during the last wait is not missed.
    pub async fn outbox_changed(&self) {
        self.writer.outbox_changed().await;
    }

    /// Waits for the writer to take an empty job, which commits nothing; `false` if it has stopped.
    pub async fn check_writer(&self) -> bool {
        self.writer.check().await
    }

    /// How far the writer has come with a long step, such as a rewrite.
    pub fn progress(&self) -> &Progress {
        self.writer.progress()
    }

    /// Writes the live rows into a new file, which takes the place of the old one: what was removed
    /// is then in no file any more. Readers do not wait; writers do.
    ///
    /// # Errors
    /// If the disk fails; the database is as it was then.
    pub async fn rewrite(&self, now: Millis) -> Result<(), StoreError> {
        self.writer.rewrite(now).await
    }

    /// When the copies were made that lie around since migrations.
    pub fn old_copies(&self) -> Vec<Millis> {
        let copies = self.path.as_deref().map(copies::list).unwrap_or_default();
        copies.into_iter().map(|(_, made)| made).collect()
    }

    /// Removes the copies that migrations have made, once they have lain around for as long as `kept`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn remove_old_copies(&self, kept: Duration, now: Millis) -> Result<(), StoreError> {
        self.path.as_deref().map_or(Ok(()), |path| copies::remove_old(path, kept, now))
    }

    /// Waits until nothing can be written any more, because the disk failed or is full, or the writer has ended. A
    /// restart opens the database again.
    pub async fn failed(&self) {
        self.writer.failed().await;
    }
}
