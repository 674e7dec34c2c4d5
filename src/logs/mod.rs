//! The three logs that hold what the policy lets a server remember of its callers, in files of their own: who
//! looked up what, which programs called from where, and how often (design, P14 and P15).
//!
//! Rows are queued in memory and written by two threads, so no request waits for the disk. The operator's log
//! on standard error is not written here, and no personal data is ever in it.

mod counters;
mod files;
mod ledgers;
mod lookups;
mod read;
mod tally;

use std::{
    hash::RandomState,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use self::{
    counters::{CONNECTION_COLUMNS, KIND_COLUMNS},
    ledgers::{INTERVAL, Ledger},
    lookups::{LookupRow, Queue},
};
pub use self::{
    counters::{Counter, RequestKind, agent, printable},
    files::{Held, LogKind, folder, held, unlink_expired},
    lookups::clear_hash,
    read::{LookedUp, LookupMade, LookupSummary, rows},
    tally::CountedRow,
};
use crate::{
    config::Privacy,
    domain::{clock::Clock, ids::UserId, lookup::Algorithm, secret::Key32, time::Millis},
    parts,
};

/// Called with a log and how many of its rows were lost.
pub type OnLost = Box<dyn Fn(LogKind, u64) + Send + Sync>;

/// The thread that writes the log of lookups.
const LOOKUP_PART: &str = "lookup log";
/// The thread that writes the access and connection logs.
const ACCESS_PART: &str = "access log";

/// The logs in a data directory.
pub struct Logs {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the writing threads work with.
struct Shared {
    folder: PathBuf,
    privacy: Privacy,
    clock: Arc<dyn Clock>,
    key: Key32,
    on_lost: OnLost,
    queue: Queue,
    hasher: RandomState,
    counters: Mutex<Vec<Arc<Counter>>>,
    is_closed: Mutex<bool>,
    bell: Condvar,
    has_warned: AtomicBool,
}

impl Logs {
    /// The logs in `folder`, for reading. Nothing is written before [`Logs::start`]. Addresses that were looked up
    /// in the clear are hashed under `key`.
    pub fn new(
        folder: PathBuf,
        privacy: Privacy,
        clock: Arc<dyn Clock>,
        key: Key32,
        on_lost: OnLost,
    ) -> Self {
        let shared = Arc::new(Shared {
            folder,
            privacy,
            clock,
            key,
            on_lost,
            queue: Queue::default(),
            hasher: RandomState::new(),
            counters: Mutex::default(),
            is_closed: Mutex::new(false),
            bell: Condvar::new(),
            has_warned: AtomicBool::new(false),
        });
        Self { shared, threads: Mutex::default() }
    }

    /// Creates the folder and starts the threads that write. A row waits at most `tick` before it is written.
    /// `on_end` is called with the name of a thread that ends, also when it panics.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn start(
        &self,
        tick: Duration,
        on_end: impl Fn(&'static str) + Clone + Send + 'static,
    ) -> io::Result<()> {
        files::prepare(&self.shared.folder)?;
        // Two, because the second waits for the disk and the first must not.
        let start = |name: &'static str, work: fn(&Shared, Duration)| {
            let (shared, on_end) = (self.shared.clone(), on_end.clone());
            let work = move || {
                parts::panic_if_asked(name);
                work(&shared, tick);
            };
            parts::spawn_thread(name, move || on_end(name), work)
        };
        let started =
            [start(LOOKUP_PART, Shared::write_lookups)?, start(ACCESS_PART, Shared::write_ledgers)?];
        lock(&self.threads).extend(started);
        Ok(())
    }

    /// Begins the row of a lookup that is about to run; finish it with [`Logs::add_lookup`].
    pub fn lookup_row(
        &self,
        account: &UserId,
        ip: IpAddr,
        algorithm: Algorithm,
        addresses: usize,
        now: Millis,
    ) -> LookupRow<'_> {
        let Shared { privacy, key, .. } = &*self.shared;
        LookupRow::new(privacy.lookup_log, key, account, ip, algorithm, addresses, now)
    }

    /// Queues the row of a lookup. Never waits for the disk; a row that does not fit is lost and counted.
    pub fn add_lookup(&self, row: LookupRow<'_>) {
        self.shared.queue.push(row);
    }

    /// A counter of requests, for one thread.
    pub fn counter(&self) -> Arc<Counter> {
        let counter = Arc::new(Counter::new(&self.shared.hasher));
        lock(&self.shared.counters).push(counter.clone());
        counter
    }

    /// See [`files::unlink_expired`].
    ///
    /// # Errors
    /// The first file that could not be unlinked; the others are gone all the same.
    pub fn unlink_expired(&self, now: Millis) -> io::Result<usize> {
        unlink_expired(&self.shared.folder, now, &self.shared.privacy)
    }

    /// How much of each log there is. Reads every file once, in pieces, and waits for the disk.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn held(&self) -> io::Result<[Held; 3]> {
        held(&self.shared.folder, &self.shared.privacy)
    }

    /// Writes everything that is there, and ends. What is handed over later is lost.
    pub fn close(&self) {
        self.shared.queue.close();
        *lock(&self.shared.is_closed) = true;
        self.shared.bell.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A panic was reported through `on_end`.
            let _ = thread.join();
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn write_lookups(&self, tick: Duration) {
        let lost = |rows| self.lost(LogKind::Lookup, rows);
        self.queue.write(&self.folder, &self.privacy, tick, || self.clock.now(), lost);
    }

    /// Collects what was counted, and writes it once a minute.
    fn write_ledgers(&self, tick: Duration) {
        let (privacy, clock) = (&self.privacy, &self.clock);
        let ledger = (self.folder.clone(), self.hasher.clone());
        let mut access = Ledger::new(LogKind::Access, KIND_COLUMNS, ledger.0.clone(), ledger.1.clone());
        let mut connections = Ledger::new(LogKind::Connection, CONNECTION_COLUMNS, ledger.0, ledger.1);
        let mut written = clock.now();
        loop {
            let is_last = self.is_closed_within(tick);
            let counters = lock(&self.counters).clone();
            for (requests, counts) in counters.iter().map(|counter| counter.collect()) {
                self.lost(LogKind::Access, access.add(requests));
                self.lost(LogKind::Connection, connections.add(counts));
            }
            let now = clock.now();
            // Also if the clock was put back.
            if is_last || now < written || now >= written.after(INTERVAL) {
                self.lost(LogKind::Access, access.write(privacy, now));
                self.lost(LogKind::Connection, connections.write(privacy, now));
                written = now;
            }
            if is_last {
                return;
            }
        }
    }

    fn is_closed_within(&self, tick: Duration) -> bool {
        let waited = self.bell.wait_timeout_while(lock(&self.is_closed), tick, |is_closed| !*is_closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lost(&self, kind: LogKind, rows: u64) {
        if rows == 0 {
            return;
        }
        (self.on_lost)(kind, rows);
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                log = kind.as_str(),
                "rows of a log are lost: the disk is full, broken or too slow; the metric bindery_log_rows_lost_total counts them from now on"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
