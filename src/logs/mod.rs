//! The three logs of callers, in files of their own: which account looked up what, which user agent called from
//! which IP address, and how often (design, P14 and P15). They hold only what the privacy policy allows.
//!
//! Rows are queued in memory and written by two threads, so no request waits for the disk. The operator's log
//! on standard error is separate and never contains personal data.

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
    counters::CONNECTION_COLUMNS,
    ledgers::{Ledger, WRITE_INTERVAL},
    lookups::{LookupRow, Queue},
};
pub use self::{
    counters::{Counter, agent, printable},
    files::{Held, LogKind, exist, folder, held, unlink_expired},
    lookups::clear_hash,
    read::{LookedUp, LookupMade, LookupSummary, for_each_row},
    tally::CountedRow,
};
use crate::{
    config::Privacy,
    domain::{
        clock::Clock, ids::UserId, lookup::Algorithm, request_kind::KIND_NAMES, secret::Key32, time::Millis,
    },
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

/// The state that the writing threads share.
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
    wake: Condvar,
    has_warned: AtomicBool,
}

impl Logs {
    /// The logs in `folder`. Nothing is written before [`Logs::start`]. Addresses that were looked up in the
    /// clear are hashed under `key`.
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
            wake: Condvar::new(),
            has_warned: AtomicBool::new(false),
        });
        Self { shared, threads: Mutex::default() }
    }

    /// Creates the folder and starts the writing threads. A row is queued for at most `tick`. `on_end` is called
    /// with the name of a thread that ends, also when it panics.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn start(
        &self,
        tick: Duration,
        on_end: impl Fn(&'static str) + Clone + Send + 'static,
    ) -> io::Result<()> {
        files::prepare(&self.shared.folder)?;
        // Two threads: compacting a ledger takes long, and lookup rows must not wait for it.
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

    /// Begins the row of a lookup. Pass it to [`Logs::add_lookup`] afterwards.
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

    /// Queues the row of a lookup. Never waits for the disk: a row that does not fit is dropped and counted.
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
    /// The first file that could not be unlinked. The others are unlinked.
    pub fn unlink_expired(&self, now: Millis) -> io::Result<usize> {
        unlink_expired(&self.shared.folder, now, &self.shared.privacy)
    }

    /// Measures each log, see [`files::held`]. Waits for the disk.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn held(&self) -> io::Result<[Held; 3]> {
        held(&self.shared.folder, &self.shared.privacy)
    }

    /// Writes all queued rows and ends the threads. Rows that are added later are lost.
    pub fn close(&self) {
        self.shared.queue.close();
        *lock(&self.shared.is_closed) = true;
        self.shared.wake.notify_all();
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
        let lost = |rows| self.count_lost(LogKind::Lookup, rows);
        self.queue.write(&self.folder, &self.privacy, tick, || self.clock.now(), lost);
    }

    /// Collects the counters every `tick`, and writes the ledgers once a minute.
    fn write_ledgers(&self, tick: Duration) {
        let (privacy, clock) = (&self.privacy, &self.clock);
        let ledger = (self.folder.clone(), self.hasher.clone());
        let mut access = Ledger::new(LogKind::Access, KIND_NAMES, ledger.0.clone(), ledger.1.clone());
        let mut connections = Ledger::new(LogKind::Connection, CONNECTION_COLUMNS, ledger.0, ledger.1);
        let mut written = clock.now();
        loop {
            let is_last = self.is_closed_within(tick);
            let counters = lock(&self.counters).clone();
            for (requests, counts) in counters.iter().map(|counter| counter.collect()) {
                self.count_lost(LogKind::Access, access.add(requests));
                self.count_lost(LogKind::Connection, connections.add(counts));
            }
            let now = clock.now();
            // `now < written` means that the clock was set back.
            if is_last || now < written || now >= written.after(WRITE_INTERVAL) {
                self.count_lost(LogKind::Access, access.write(privacy, now));
                self.count_lost(LogKind::Connection, connections.write(privacy, now));
                written = now;
            }
            if is_last {
                return;
            }
        }
    }

    fn is_closed_within(&self, tick: Duration) -> bool {
        let woken = self.wake.wait_timeout_while(lock(&self.is_closed), tick, |is_closed| !*is_closed);
        *woken.unwrap_or_else(PoisonError::into_inner).0
    }

    fn count_lost(&self, kind: LogKind, rows: u64) {
        if rows == 0 {
            return;
        }
        (self.on_lost)(kind, rows);
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                log = kind.as_str(),
                "rows of a log are lost: the disk is full, broken or too slow; the metric bindery_log_rows_lost_total counts them, and this line is logged only once"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
