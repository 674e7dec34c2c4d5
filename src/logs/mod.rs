//! The three logs that hold what the policy lets a server remember of its callers, in files of
//! their own: who looked up what, which programs called from where, and how often (design, P14 and P15).
//!
//! They are written beside the requests and never in their way. What the operator's other log, on
//! standard error, says is no business of this layer: nothing personal is ever in it.

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
    thread::{self, JoinHandle},
    time::Duration,
};

use self::{
    counters::{CONNECTION_COLUMNS, KIND_COLUMNS},
    ledgers::{INTERVAL, Ledger},
    lookups::Queue,
};
pub use self::{
    counters::{Counter, RequestKind, agent, printable},
    files::{Held, LogKind, folder, held, unlink_expired},
    lookups::{LookupRow, clear_hash},
    read::{LookupSummary, lookups_by, lookups_of, rows},
    tally::CountedRow,
};
use crate::{
    domain::{ids::UserId, lookup::Algorithm, secret::Key32, time::Millis},
    ops::Core,
};

/// The logs of a running server.
pub struct Logs {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads that write work with.
struct Shared {
    core: Arc<Core>,
    folder: PathBuf,
    key: Key32,
    queue: Queue,
    hasher: RandomState,
    counters: Mutex<Vec<Arc<Counter>>>,
    is_closed: Mutex<bool>,
    bell: Condvar,
    has_warned: AtomicBool,
}

impl Logs {
    /// Makes the folder, and starts the threads that write. `tick` is how long a row waits at most before it is
    /// on its way to the disk.
    ///
    /// # Errors
    /// If the folder cannot be used, or the database cannot be read.
    pub fn open(core: Arc<Core>, tick: Duration) -> io::Result<Self> {
        let folder = folder(&core.config.data_dir);
        files::prepare(&folder)?;
        let key = core.store.read().session_key().map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            core,
            folder,
            key,
            queue: Queue::default(),
            hasher: RandomState::new(),
            counters: Mutex::default(),
            is_closed: Mutex::new(false),
            bell: Condvar::new(),
            has_warned: AtomicBool::new(false),
        });
        // Two, because the second waits for the disk and the first must not.
        let start = |name: &str, work: fn(&Shared, Duration)| {
            let shared = shared.clone();
            thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared, tick))
        };
        let threads = vec![start("lookup log", Shared::write_lookups)?, start("access log", Shared::keep)?];
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// The row of a lookup that is about to run, for [`Logs::looked_up`].
    pub fn lookup_row(
        &self,
        account: &UserId,
        ip: IpAddr,
        algorithm: Algorithm,
        addresses: usize,
        now: Millis,
    ) -> LookupRow<'_> {
        let Shared { core, key, .. } = &*self.shared;
        LookupRow::new(core.config.privacy.lookup_log, key, account, ip, algorithm, addresses, now)
    }

    /// Hands over the row of a lookup that was answered. Waits for no disk; a row that finds no
    /// room is lost and counted.
    pub fn looked_up(&self, row: LookupRow<'_>) {
        self.shared.queue.push(row);
    }

    /// A counter of requests, for one thread.
    pub fn counter(&self) -> Arc<Counter> {
        let counter = Arc::new(Counter::new(&self.shared.hasher));
        lock(&self.shared.counters).push(counter.clone());
        counter
    }

    /// Writes everything that is there, and ends. What is handed over later is lost.
    pub fn close(&self) {
        self.shared.queue.close();
        *lock(&self.shared.is_closed) = true;
        self.shared.bell.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // One that panicked has said so.
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
        let (config, clock) = (&self.core.config, &self.core.clock);
        let lost = |rows| self.lost(LogKind::Lookup, rows);
        self.queue.write(&self.folder, &config.privacy, tick, || clock.now(), lost);
    }

    /// Collects what was counted, and writes it once a minute.
    fn keep(&self, tick: Duration) {
        let (privacy, clock) = (&self.core.config.privacy, &self.core.clock);
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
        self.core.metrics.count_lost_log_rows(kind.as_str(), rows);
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
