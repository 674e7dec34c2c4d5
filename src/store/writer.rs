//! The one thread that writes: it takes what is queued, runs it in one transaction, commits once, publishes the new
//! snapshot, and only then answers the callers.
//!
//! A durable write costs an fsync, and that costs the same for one write as for a thousand. The thread never waits
//! for more work to come.

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use redb::Database;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    Progress, Snapshot, StoreError,
    job::{Job, Pending},
    rewrite,
    writes::{Writes, mark_uncommitted},
};
use crate::domain::time::Millis;

/// How many closures share a transaction at most; also how many may wait before callers do.
pub const MAX_BATCH: usize = 1024;

/// What the thread is asked for.
enum Order {
    Write(Box<dyn Job>),
    Rewrite(Millis, oneshot::Sender<Result<(), StoreError>>),
    Check(oneshot::Sender<()>),
}

/// Where the database is, and how it is opened there.
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// How many bytes of pages redb may cache.
    pub cache: usize,
}

/// The way to the writing thread. Dropping it waits until the thread has finished what was queued and has closed the
/// database.
pub struct Writer {
    queue: Option<mpsc::Sender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
    signals: Arc<Signals>,
    progress: Progress,
}

/// What the thread tells others.
struct Signals {
    /// Whether the thread can write no more.
    has_failed: watch::Sender<bool>,
    /// Something was put into the outbox.
    outbox: Notify,
}

/// Tells that the thread can write no more when it ends, also by a panic.
struct FailureGuard(Arc<Signals>);

impl Drop for FailureGuard {
    fn drop(&mut self) {
        self.0.has_failed.send_replace(true);
    }
}

impl Writer {
    /// Starts the thread, which owns the database from here on.
    pub fn start(
        database: Arc<Database>,
        place: Option<Place>,
        published: Arc<ArcSwap<Snapshot>>,
    ) -> Result<Self, StoreError> {
        let (queue, queued) = mpsc::channel(MAX_BATCH);
        let signals = Arc::new(Signals { has_failed: watch::Sender::new(false), outbox: Notify::new() });
        let progress = Progress::default();
        let writing =
            Writing { database, place, published, signals: signals.clone(), progress: progress.clone() };
        let guard = FailureGuard(signals.clone());
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let _guard = guard;
            writing.run(queued);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), signals, progress })
    }

    /// See [`super::Store::failed`].
    pub async fn failed(&self) {
        let mut has_failed = self.signals.has_failed.subscribe();
        // The sender lives as long as this.
        let _ = has_failed.wait_for(|has_failed| *has_failed).await;
    }

    /// See [`super::Store::outbox_changed`].
    pub async fn outbox_changed(&self) {
        self.signals.outbox.notified().await;
    }

    /// See [`super::Store::progress`].
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// See [`super::Store::try_write`].
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Display + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Pending::new(work, caller));
        self.order(Order::Write(job)).await?;
        answer.await.map_err(|_| StoreError::WriterStopped)?
    }

    /// See [`super::Store::rewrite`].
    pub async fn rewrite(&self, now: Millis) -> Result<(), StoreError> {
        let (caller, answer) = oneshot::channel();
        self.order(Order::Rewrite(now, caller)).await?;
        answer.await.map_err(|_| StoreError::WriterStopped)?
    }

    /// See [`super::Store::check_writer`].
    pub async fn check(&self) -> bool {
        let (caller, answer) = oneshot::channel();
        self.order(Order::Check(caller)).await.is_ok() && answer.await.is_ok()
    }

    async fn order(&self, order: Order) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::WriterStopped)?;
        queue.send(order).await.map_err(|_| StoreError::WriterStopped)
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

/// What the thread works with.
struct Writing {
    database: Arc<Database>,
    place: Option<Place>,
    published: Arc<ArcSwap<Snapshot>>,
    signals: Arc<Signals>,
    progress: Progress,
}

impl Writing {
    fn run(mut self, mut queued: mpsc::Receiver<Order>) {
        while let Some(first) = queued.blocking_recv() {
            let (mut batch, mut next) = (Vec::new(), Some(first));
            let after = loop {
                match next {
                    Some(Order::Write(job)) => batch.push(job),
                    other => break other,
                }
                next = if batch.len() < MAX_BATCH { queued.try_recv().ok() } else { None };
            };
            if !batch.is_empty() {
                self.write(batch);
            }
            let goes_on = match after {
                Some(Order::Rewrite(now, caller)) => self.rewrite(now, caller),
                Some(Order::Check(caller)) => {
                    let _ = caller.send(());
                    true
                }
                Some(Order::Write(_)) | None => true,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Rewrites the file; `false` if nothing may be written any more.
    fn rewrite(&mut self, now: Millis, caller: oneshot::Sender<Result<(), StoreError>>) -> bool {
        // A database in memory has no file to leave anything in.
        let Some(Place { path, cache }) = &self.place else {
            let _ = caller.send(Ok(()));
            return true;
        };
        let (path, cache) = (path.clone(), *cache);
        let new = match rewrite::copy(&self.database, &path, cache, now, &self.progress) {
            Ok(new) => new,
            Err(error) => {
                let _ = caller.send(Err(error));
                return true;
            }
        };
        let switched = self.switch(new, &path);
        if let Err(error) = &switched {
            self.signals.has_failed.send_replace(true);
            tracing::error!(%error, "the rewritten database could not be put in place; no more writes until the next start");
        }
        let goes_on = switched.is_ok();
        let _ = caller.send(switched);
        goes_on
    }

    /// Puts `new` in the place of the database. After a failure, nothing may be written.
    fn switch(&mut self, new: Database, path: &Path) -> Result<(), StoreError> {
        rewrite::put_in_place(path)?;
        let old = std::mem::replace(&mut self.database, Arc::new(new));
        let authorization = self.published.load().authorization();
        self.published.store(Arc::new(Snapshot::take(&self.database, authorization)?));
        // Closing it takes a while, which no request that still reads it should spend.
        let close = move || {
            while Arc::strong_count(&old) > 1 {
                thread::sleep(Duration::from_millis(10));
            }
        };
        thread::Builder::new().name("store-closer".to_owned()).spawn(close)?;
        Ok(())
    }

    fn write(&self, mut batch: Vec<Box<dyn Job>>) {
        let outcome = self.commit(&mut batch);
        let outcome = outcome.map_err(|failure| {
            let error = match failure {
                Failed::Work(error) => error,
                Failed::Disk(error) => {
                    // Before the log, which may be on the same full disk.
                    self.signals.has_failed.send_replace(true);
                    error
                }
            };
            tracing::error!(%error, operations = batch.len(), "a batch of writes was undone");
            error
        });
        for job in batch {
            job.answer(outcome.clone());
        }
    }

    /// Runs the batch in one transaction and publishes the state after it.
    fn commit(&self, batch: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        let transaction = self.database.begin_write().map_err(disk)?;
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut tables = Writes::open(&transaction)?;
            batch.iter_mut().try_for_each(|job| job.run(&mut tables))?;
            tables.finish()?;
            let changes = tables.changes();
            Ok((changes.count() > 0).then_some((changes.has_revoked(), changes.has_queued())))
        }));
        let run = run.unwrap_or_else(|_| Err(StoreError::Inconsistent("a write panicked")));
        let (has_revoked, has_queued) = match run {
            Ok(Some(changes)) => changes,
            Ok(None) => return transaction.abort().map_err(disk),
            Err(error) => {
                transaction.abort().map_err(disk)?;
                // The bytes that it wrote are in the file all the same.
                mark_uncommitted(&self.database).map_err(Failed::Disk)?;
                return Err(Failed::Work(error));
            }
        };
        transaction.commit().map_err(disk)?;
        let authorization = self.published.load().authorization() + u64::from(has_revoked);
        let snapshot = Snapshot::take(&self.database, authorization).map_err(Failed::Disk)?;
        self.published.store(Arc::new(snapshot));
        if has_queued {
            self.signals.outbox.notify_one();
        }
        Ok(())
    }
}

/// Why a batch was undone.
enum Failed {
    /// A closure failed after it had changed something, or panicked: a bug.
    Work(StoreError),
    /// The database failed. It takes nothing any more until it is opened again.
    Disk(StoreError),
}

fn disk(error: impl Into<StoreError>) -> Failed {
    Failed::Disk(error.into())
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::{
        domain::{
            ids::{Token, UserId},
            secret::{Key32, SecretHash},
            server_name::ServerName,
        },
        store::{Genesis, Store},
    };

    fn store() -> Store {
        let key = || Key32::new([1; 32]);
        let genesis =
            || Genesis { signing_seed: key(), pepper: "p".to_owned(), session_key: key(), now: Millis(1) };
        let name = ServerName::parse("id.test").expect("a name");
        Store::on_backend(InMemoryBackend::new(), &name, genesis).expect("a database")
    }

    fn owner() -> UserId {
        UserId::parse("@a:b").expect("a user ID")
    }

    #[tokio::test]
    async fn a_closure_that_fails_before_it_writes_spoils_nobody_elses_answer() {
        let store = store();
        let writes = (0..100_u8).map(|number| {
            store.write(move |tables| match number % 2 {
                0 => tables.put_token(&Token::from_bytes([number; 32]), &owner(), Millis(1)),
                _ => Err(StoreError::Inconsistent("a row cannot be read")),
            })
        });
        let answers = futures_util::future::join_all(writes).await;
        assert!(
            answers.iter().enumerate().all(|(number, answer)| answer.is_ok() == number.is_multiple_of(2))
        );
        assert!(store.read().token_owner(&Token::from_bytes([98; 32])).expect("readable").is_some());
    }

    #[tokio::test]
    async fn a_refusal_after_a_change_is_a_bug_and_undoes_its_batch() {
        let store = store();
        let token = Token::from_bytes([1; 32]);
        let stored = token.clone();
        let written = store.try_write(move |tables| -> Result<(), anyhow::Error> {
            tables.put_token(&stored, &owner(), Millis(1))?;
            anyhow::bail!("refused too late")
        });
        assert_eq!(written.await.expect_err("refused").to_string(), "refused too late");
        assert!(store.read().token_owner(&token).expect("readable").is_none());
        store.write(move |tables| tables.put_token(&token, &owner(), Millis(1))).await.expect("it goes on");
        assert!(store.read().has_removed().expect("readable"), "what was undone may be in the file");
    }

    #[tokio::test]
    async fn tables_note_what_a_commit_changed() {
        let store = store();
        let hash = SecretHash::of("token");
        let states = || (store.read().has_removed().expect("readable"), store.read().authorization());
        let token = Token::parse("token").expect("a token");
        store.write(move |tables| tables.put_token(&token, &owner(), Millis(1))).await.expect("written");
        store.write(|tables| tables.put_consent(&owner(), "terms", "1", Millis(1))).await.expect("written");
        assert_eq!(states(), (false, 0), "what is new revokes and removes nothing");
        store.write(|tables| tables.put_consent(&owner(), "terms", "2", Millis(1))).await.expect("written");
        assert_eq!(states(), (false, 1), "a replaced consent revokes");
        store.write(|tables| tables.count_sms(1)).await.expect("written");
        store.write(|tables| tables.count_sms(2)).await.expect("written");
        assert_eq!(states(), (false, 1), "a count is about nobody");
        store.write(move |tables| tables.remove_token(hash).map(drop)).await.expect("written");
        assert_eq!(states(), (true, 2), "a removed token does both");
        store.write(move |tables| tables.remove_token(hash).map(drop)).await.expect("nothing to do");
        assert_eq!(states(), (true, 2));
    }

    #[tokio::test]
    async fn the_writer_takes_an_empty_job_and_says_when_it_has_ended() {
        let store = store();
        assert!(store.check_writer().await);
        let failed = std::pin::pin!(store.failed());
        assert!(futures_util::FutureExt::now_or_never(failed).is_none());
    }
}
