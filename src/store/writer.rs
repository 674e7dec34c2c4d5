//! The one thread that writes: it takes whatever is waiting, runs it in one transaction, commits
//! once, publishes the new snapshot, and only then answers everybody.
//!
//! Durable writes cost a disk flush, and a flush costs the same for one write as for a thousand.
//! The thread never waits for more work to come.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use redb::Database;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    Snapshot, StoreError, rewrite,
    writes::{Writes, mark_uncommitted},
};
use crate::{domain::time::Millis, parts};

/// The name of the thread.
pub const WRITER_PART: &str = "store writer";

/// How many closures share a transaction at most; also how many may wait before callers do.
pub const MAX_BATCH: usize = 1024;

/// A closure with the caller who waits for it.
trait Job: Send {
    /// Runs the closure and keeps its answer.
    ///
    /// # Errors
    /// If the closure failed after it had written something.
    fn run(&mut self, tables: &mut Writes<'_>) -> Result<(), StoreError>;
    /// Gives the caller the answer, or the reason why the batch was undone.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Pending<T, F> {
    work: Option<F>,
    value: Option<Result<T, StoreError>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnOnce(&mut Writes<'_>) -> Result<T, StoreError> + Send> Job for Pending<T, F> {
    fn run(&mut self, tables: &mut Writes<'_>) -> Result<(), StoreError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let before = tables.written();
        let answer = work(tables);
        // One that fails before it writes, on a row that cannot be read, say, spoils only its own
        // answer.
        let spoiled =
            if tables.written() == before { Ok(()) } else { answer.as_ref().map(drop).map_err(Clone::clone) };
        self.value = Some(answer);
        spoiled
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, caller, .. } = *self;
        let not_run = || Err(StoreError::new("the closure was not run"));
        let answer = outcome.and_then(|()| value.unwrap_or_else(not_run));
        // A caller that has gone away changes nothing: what is committed is committed.
        let _ = caller.send(answer);
    }
}

/// What the thread is asked for.
enum Order {
    Write(Box<dyn Job>),
    Rewrite(Millis, oneshot::Sender<Result<(), StoreError>>),
    /// Answered at once, without a transaction.
    Check(oneshot::Sender<()>),
}

/// Where the database lies, and how it is opened there.
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// How many bytes the database may use to remember pages.
    pub cache: usize,
}

/// The way to the writing thread. Dropping it waits for the thread to finish what was queued and
/// to close the database.
pub struct Writer {
    queue: Option<mpsc::Sender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
    broken: Arc<Notify>,
}

impl Writer {
    /// Starts the thread, which owns the database from here on.
    pub fn start(
        database: Arc<Database>,
        place: Option<Place>,
        published: Arc<ArcSwap<Snapshot>>,
    ) -> Result<Self, StoreError> {
        let (queue, waiting) = mpsc::channel(MAX_BATCH);
        let broken = Arc::new(Notify::new());
        let (ended, told) = (broken.clone(), broken.clone());
        let work = move || run(database, place.as_ref(), waiting, &published, &told);
        let thread =
            parts::spawn_thread(WRITER_PART, move || ended.notify_one(), work).map_err(StoreError::new)?;
        Ok(Self { queue: Some(queue), thread: Some(thread), broken })
    }

    /// See [`super::Store::broken`].
    pub async fn broken(&self) {
        self.broken.notified().await;
    }

    /// See [`super::Store::write`].
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Pending { work: Some(work), value: None, caller });
        self.order(Order::Write(job)).await?;
        answer.await.map_err(|_| gone())?
    }

    /// See [`super::Store::rewrite`].
    pub async fn rewrite(&self, now: Millis) -> Result<(), StoreError> {
        let (caller, answer) = oneshot::channel();
        self.order(Order::Rewrite(now, caller)).await?;
        answer.await.map_err(|_| gone())?
    }

    /// See [`super::Store::check_writer`].
    pub async fn check(&self) -> Result<(), StoreError> {
        let (caller, answer) = oneshot::channel();
        self.order(Order::Check(caller)).await?;
        answer.await.map_err(|_| gone())
    }

    async fn order(&self, order: Order) -> Result<(), StoreError> {
        self.queue.as_ref().ok_or_else(gone)?.send(order).await.map_err(|_| gone())
    }
}

fn gone() -> StoreError {
    StoreError::new("the writer has stopped")
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    mut database: Arc<Database>,
    place: Option<&Place>,
    mut waiting: mpsc::Receiver<Order>,
    published: &ArcSwap<Snapshot>,
    broken: &Notify,
) {
    while let Some(first) = waiting.blocking_recv() {
        parts::panic_if_asked(WRITER_PART);
        let (mut batch, mut next) = (Vec::new(), Some(first));
        let asked = loop {
            match next {
                Some(Order::Write(job)) => batch.push(job),
                Some(Order::Rewrite(now, caller)) => break Some((now, caller)),
                Some(Order::Check(caller)) => drop(caller.send(())),
                None => break None,
            }
            next = if batch.len() < MAX_BATCH { waiting.try_recv().ok() } else { None };
        };
        if !batch.is_empty() {
            write(&database, batch, published, broken);
        }
        if let Some((now, caller)) = asked {
            // A database in memory has no file to leave anything in.
            let copy = |place: &Place| rewrite::copy(&database, &place.path, place.cache, now);
            match place.map(|place| (place, copy(place))) {
                None => drop(caller.send(Ok(()))),
                Some((_, Err(error))) => drop(caller.send(Err(error))),
                Some((place, Ok(new))) => match switch(&mut database, new, &place.path, published) {
                    Ok(()) => drop(caller.send(Ok(()))),
                    Err(error) => {
                        broken.notify_one();
                        tracing::error!(%error, "the rewritten database could not be put in place");
                        let _ = caller.send(Err(error));
                        return;
                    }
                },
            }
        }
    }
}

/// Goes on with `new` in the place of `database`. After a failure, nothing may be written.
fn switch(
    database: &mut Arc<Database>,
    new: Database,
    path: &Path,
    published: &ArcSwap<Snapshot>,
) -> Result<(), StoreError> {
    rewrite::put_in_place(path)?;
    let old = std::mem::replace(database, Arc::new(new));
    let authorization = published.load().authorization();
    published.store(Arc::new(Snapshot::take(database, authorization)?));
    // Closing it takes its time, which no request that still reads it should have to spend.
    let close = move || {
        while Arc::strong_count(&old) > 1 {
            thread::sleep(Duration::from_millis(10));
        }
    };
    thread::Builder::new().name("store-closer".to_owned()).spawn(close).map_err(StoreError::new)?;
    Ok(())
}

fn write(
    database: &Arc<Database>,
    mut batch: Vec<Box<dyn Job>>,
    published: &ArcSwap<Snapshot>,
    broken: &Notify,
) {
    let outcome = commit(database, &mut batch, published);
    let outcome = outcome.map_err(|failure| {
        let (error, is_broken) = match failure {
            Undone::Closure(error) => (error, false),
            Undone::Disk(error) => (error, true),
        };
        // First, because a log that cannot be written must not keep the server from ending.
        if is_broken {
            broken.notify_one();
        }
        tracing::error!(%error, operations = batch.len(), "a batch of writes was undone");
        error
    });
    for job in batch {
        job.answer(outcome.clone());
    }
}

/// Why a batch was undone.
enum Undone {
    /// A closure failed after it had written: a bug.
    Closure(StoreError),
    /// The database failed; it takes nothing any more until it is opened again.
    Disk(StoreError),
}

fn disk(error: impl std::fmt::Display) -> Undone {
    Undone::Disk(StoreError::new(error))
}

/// Runs the batch in one transaction and publishes the state after it.
fn commit(
    database: &Arc<Database>,
    batch: &mut [Box<dyn Job>],
    published: &ArcSwap<Snapshot>,
) -> Result<(), Undone> {
    let transaction = database.begin_write().map_err(disk)?;
    let run = catch_unwind(AssertUnwindSafe(|| {
        let mut tables = Writes::open(&transaction)?;
        batch.iter_mut().try_for_each(|job| job.run(&mut tables))?;
        tables.finish()?;
        Ok((tables.written() > 0).then_some(tables.revoked))
    }));
    let run = run.unwrap_or_else(|_panic| Err(StoreError::new("a closure panicked")));
    let revoked = match run {
        Ok(Some(revoked)) => revoked,
        Ok(None) => return transaction.abort().map_err(disk),
        Err(error) => {
            transaction.abort().map_err(disk)?;
            // What was written is in the file all the same.
            mark_uncommitted(database).map_err(Undone::Disk)?;
            return Err(Undone::Closure(error));
        }
    };
    transaction.commit().map_err(disk)?;
    let authorization = published.load().authorization() + u64::from(revoked);
    published.store(Arc::new(Snapshot::take(database, authorization).map_err(Undone::Disk)?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::{
        domain::{
            ids::{Token, UserId},
            secret::Key32,
            server_name::ServerName,
            time::Millis,
        },
        store::{Genesis, Store},
    };

    #[tokio::test]
    async fn a_closure_that_fails_before_it_writes_spoils_nobody_elses_answer() {
        let key = || Key32::new([1; 32]);
        let genesis =
            || Genesis { signing_seed: key(), pepper: "p".to_owned(), session_key: key(), now: Millis(1) };
        let name = ServerName::parse("id.test").expect("a name");
        let store = Store::on_backend(InMemoryBackend::new(), &name, genesis).expect("a database");
        let owner = UserId::parse("@a:b").expect("a user ID");
        let writes = (0..100_u8).map(|number| {
            let owner = owner.clone();
            store.write(move |tables| match number % 2 {
                0 => tables.put_token(&Token::from_bytes([number; 32]), &owner, Millis(1)),
                _ => Err(StoreError::new("a row cannot be read")),
            })
        });
        let answers = futures_util::future::join_all(writes).await;
        assert!(
            answers.iter().enumerate().all(|(number, answer)| answer.is_ok() == number.is_multiple_of(2))
        );
        assert!(store.read().token_owner(&Token::from_bytes([98; 32])).expect("readable").is_some());
    }
}
