//! The one thread that writes: it takes whatever is waiting, runs it in one transaction, commits
//! once, publishes the new snapshot, and only then answers everybody.
//!
//! Durable writes cost a disk flush, and a flush costs the same for one write as for a thousand.
//! The thread never waits for more work to come.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use arc_swap::ArcSwap;
use redb::{Database, ReadableDatabase};
use tokio::sync::{mpsc, oneshot};

use super::{Snapshot, StoreError, writes::Writes};

/// How many closures share a transaction at most; also how many may wait before callers do.
pub const MAX_BATCH: usize = 1024;

/// A closure with the caller who waits for it.
trait Job: Send {
    /// Runs the closure and keeps its answer.
    fn run(&mut self, tables: &mut Writes<'_>) -> Result<(), StoreError>;
    /// Gives the caller the answer, or the reason why the batch was undone.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Pending<T, F> {
    work: Option<F>,
    value: Option<T>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut Writes<'_>) -> Result<T, StoreError> + Send> Job for Pending<T, F> {
    fn run(&mut self, tables: &mut Writes<'_>) -> Result<(), StoreError> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(tables)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, caller, .. } = *self;
        let answer = outcome.and_then(|()| value.ok_or_else(|| StoreError::new("the closure was not run")));
        // A caller that has gone away changes nothing: what is committed is committed.
        let _ = caller.send(answer);
    }
}

/// The way to the writing thread. Dropping it waits for the thread to finish what was queued and
/// to close the database.
pub struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which owns the database from here on.
    pub fn start(database: Database, published: Arc<ArcSwap<Snapshot>>) -> Result<Self, StoreError> {
        let (queue, waiting) = mpsc::channel(MAX_BATCH);
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(&database, waiting, &published))
            .map_err(StoreError::new)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// See [`super::Store::write`].
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::new("the writer has stopped");
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Pending { work: Some(work), value: None, caller });
        self.queue.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(database: &Database, mut waiting: mpsc::Receiver<Box<dyn Job>>, published: &ArcSwap<Snapshot>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH {
            let Ok(job) = waiting.try_recv() else { break };
            batch.push(job);
        }
        let outcome = commit(database, &mut batch, published);
        if let Err(error) = &outcome {
            tracing::error!(%error, operations = batch.len(), "a batch of writes was undone");
        }
        for job in batch {
            job.answer(outcome.clone());
        }
    }
}

/// Runs the batch in one transaction and publishes the state after it.
fn commit(
    database: &Database,
    batch: &mut [Box<dyn Job>],
    published: &ArcSwap<Snapshot>,
) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(StoreError::new)?;
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut tables = Writes::open(&transaction)?;
        batch.iter_mut().try_for_each(|job| job.run(&mut tables))?;
        Ok(tables.changed())
    }));
    let changed = match run {
        Ok(Ok(changed)) => changed,
        Ok(Err(error)) => {
            transaction.abort().map_err(StoreError::new)?;
            return Err(error);
        }
        Err(_panic) => {
            transaction.abort().map_err(StoreError::new)?;
            return Err(StoreError::new("a closure panicked"));
        }
    };
    if !changed {
        return transaction.abort().map_err(StoreError::new);
    }
    transaction.commit().map_err(StoreError::new)?;
    published.store(Arc::new(snapshot(database)?));
    Ok(())
}

/// The latest committed state.
pub fn snapshot(database: &Database) -> Result<Snapshot, StoreError> {
    Snapshot::open(&database.begin_read().map_err(StoreError::new)?)
}
