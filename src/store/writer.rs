//! The writer thread: takes all queued work, runs it in one transaction, commits once, publishes the new
//! snapshot, and only then answers the callers.
//!
//! A commit costs one fsync, however many writes it contains. The thread never waits for a batch to fill.

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use redb::Database;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    Snapshot, StoreError,
    job::{Job, Pending},
    rewrite::{self, Replacement},
    writes::{Writes, mark_uncommitted},
};
use crate::{domain::time::Millis, metrics::Commits, parts};

/// The name of the thread.
pub const WRITER_PART: &str = "store writer";

/// How many closures share a transaction at most. Also the length of the queue; beyond it, callers wait.
pub const MAX_BATCH: usize = 1024;

/// A command to the thread.
enum Command {
    Write(Box<dyn Job>),
    Rewrite(Millis, oneshot::Sender<Result<(), StoreError>>),
    Check(oneshot::Sender<()>),
}

/// The file of the database, and how to open it.
pub struct DatabaseFile {
    /// The file.
    pub path: PathBuf,
    /// The size of redb's page cache, in bytes.
    pub cache: usize,
}

/// The handle of the writer thread. Dropping it waits until the thread has finished the queue and closed the
/// database.
pub struct Writer {
    queue: Option<mpsc::Sender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
    signals: Arc<Signals>,
}

/// The signals that the thread sends.
struct Signals {
    /// Set when the thread can write no more.
    has_failed: watch::Sender<bool>,
    /// Notified when a commit puts a row into the outbox.
    outbox: Notify,
}

impl Writer {
    /// Starts the thread, which owns the database from here on.
    pub fn start(
        database: Arc<Database>,
        file: Option<DatabaseFile>,
        published: Arc<ArcSwap<Snapshot>>,
        commits: Arc<Commits>,
    ) -> Result<Self, StoreError> {
        let (queue, queued) = mpsc::channel(MAX_BATCH);
        let signals = Arc::new(Signals { has_failed: watch::Sender::new(false), outbox: Notify::new() });
        let writing = Writing { database, file, published, commits, signals: signals.clone() };
        let ended = signals.clone();
        let on_end = move || {
            ended.has_failed.send_replace(true);
        };
        let thread = parts::spawn_thread(WRITER_PART, on_end, move || writing.run(queued))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), signals })
    }

    /// See [`super::Store::failed`].
    pub async fn failed(&self) {
        let mut has_failed = self.signals.has_failed.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = has_failed.wait_for(|has_failed| *has_failed).await;
    }

    /// See [`super::Store::outbox_changed`].
    pub async fn outbox_changed(&self) {
        self.signals.outbox.notified().await;
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
        self.send(Command::Write(job)).await?;
        answer.await.map_err(|_| StoreError::WriterStopped)?
    }

    /// See [`super::Store::rewrite`].
    pub async fn rewrite(&self, now: Millis) -> Result<(), StoreError> {
        let (caller, answer) = oneshot::channel();
        self.send(Command::Rewrite(now, caller)).await?;
        answer.await.map_err(|_| StoreError::WriterStopped)?
    }

    /// See [`super::Store::check_writer`].
    pub async fn check(&self) -> bool {
        let (caller, answer) = oneshot::channel();
        self.send(Command::Check(caller)).await.is_ok() && answer.await.is_ok()
    }

    async fn send(&self, command: Command) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::WriterStopped)?;
        queue.send(command).await.map_err(|_| StoreError::WriterStopped)
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

/// The state of the thread.
struct Writing {
    database: Arc<Database>,
    file: Option<DatabaseFile>,
    published: Arc<ArcSwap<Snapshot>>,
    commits: Arc<Commits>,
    signals: Arc<Signals>,
}

impl Writing {
    fn run(mut self, mut queued: mpsc::Receiver<Command>) {
        while let Some(first) = queued.blocking_recv() {
            parts::panic_if_asked(WRITER_PART);
            let (mut batch, mut next) = (Vec::new(), Some(first));
            let after = loop {
                match next {
                    Some(Command::Write(job)) => batch.push(job),
                    other => break other,
                }
                next = if batch.len() < MAX_BATCH { queued.try_recv().ok() } else { None };
            };
            if !batch.is_empty() {
                self.write(batch);
            }
            let can_write = match after {
                Some(Command::Rewrite(now, caller)) => self.rewrite(now, caller),
                Some(Command::Check(caller)) => {
                    let _ = caller.send(());
                    true
                }
                Some(Command::Write(_)) | None => true,
            };
            if !can_write {
                return;
            }
        }
    }

    /// Rewrites the file. `false` if the thread can write no more.
    fn rewrite(&mut self, now: Millis, caller: oneshot::Sender<Result<(), StoreError>>) -> bool {
        // A database in memory has no file to rewrite.
        let Some(DatabaseFile { path, cache }) = &self.file else {
            let _ = caller.send(Ok(()));
            return true;
        };
        let new = match rewrite::copy(&self.database, path, *cache, now) {
            Ok(new) => new,
            Err(error) => {
                let _ = caller.send(Err(error));
                return true;
            }
        };
        let switched = self.switch(new);
        if let Err(error) = &switched {
            self.signals.has_failed.send_replace(true);
            tracing::error!(%error, "the rewritten database could not replace the old one; nothing can be written until the next start");
        }
        let can_write = switched.is_ok();
        let _ = caller.send(switched);
        can_write
    }

    /// Replaces the database with `new`. After a failure, nothing may be written.
    fn switch(&mut self, new: Replacement) -> Result<(), StoreError> {
        let old = std::mem::replace(&mut self.database, Arc::new(new.put_in_place()?));
        let authorization = self.published.load().authorization();
        self.published.store(Arc::new(Snapshot::take(&self.database, authorization)?));
        // Closing takes a while, so a thread does it. If the system has no thread left, the last request that reads
        // it does.
        let close = move || {
            while Arc::strong_count(&old) > 1 {
                thread::sleep(Duration::from_millis(10));
            }
        };
        let _ = thread::Builder::new().name("store-closer".to_owned()).spawn(close);
        Ok(())
    }

    fn write(&self, mut batch: Vec<Box<dyn Job>>) {
        let outcome = self.commit(&mut batch);
        let outcome = outcome.map_err(|failure| {
            let error = match failure {
                Failed::Work(error) => error,
                Failed::Disk(error) => {
                    // Signal before logging: the log may be on the same full disk.
                    self.signals.has_failed.send_replace(true);
                    error
                }
            };
            self.commits.count_failure();
            tracing::error!(%error, operations = batch.len(), "a batch of writes was undone");
            error
        });
        for job in batch {
            job.answer(outcome.clone());
        }
    }

    /// Runs the batch in one transaction, and publishes the new snapshot.
    fn commit(&self, batch: &mut [Box<dyn Job>]) -> Result<(), Failed> {
        #[expect(clippy::disallowed_methods, reason = "how long a commit takes is real time")]
        let begun = Instant::now();
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
                // The uncommitted bytes may be in the file.
                mark_uncommitted(&self.database).map_err(Failed::Disk)?;
                return Err(Failed::Work(error));
            }
        };
        transaction.commit().map_err(disk)?;
        self.commits.count(batch.len(), begun.elapsed());
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
    /// A closure failed after a change, or panicked. This is a bug.
    Work(StoreError),
    /// The database failed. It accepts no writes until it is opened again.
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
    async fn a_closure_that_fails_before_its_first_change_affects_only_its_caller() {
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
        assert!(store.read().has_removed().expect("readable"), "uncommitted bytes may be in the file");
    }

    #[tokio::test]
    async fn tables_note_what_a_commit_changed() {
        let store = store();
        let hash = SecretHash::of("token");
        let states = || (store.read().has_removed().expect("readable"), store.read().authorization());
        let token = Token::parse("token").expect("a token");
        store.write(move |tables| tables.put_token(&token, &owner(), Millis(1))).await.expect("written");
        store.write(|tables| tables.put_consent(&owner(), "terms", "1", Millis(1))).await.expect("written");
        assert_eq!(states(), (false, 0), "a new row revokes and removes nothing");
        store.write(|tables| tables.put_consent(&owner(), "terms", "2", Millis(1))).await.expect("written");
        assert_eq!(states(), (false, 1), "a replaced consent revokes");
        store.write(|tables| tables.count_sms(1)).await.expect("written");
        store.write(|tables| tables.count_sms(2)).await.expect("written");
        assert_eq!(states(), (false, 1), "a daily count is about no person");
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
