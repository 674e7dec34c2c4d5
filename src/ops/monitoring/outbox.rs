//! Counts the rows of the outbox by kind, and watches whether its task goes on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{
    domain::{
        outbox::{Kind, OutboxKey},
        time::{Millis, as_millis},
    },
    metrics::Waiting,
    ops::{Core, Failure},
    store::{Scan, StoreError},
};

/// How many rows one step counts.
const COUNT_BATCH: usize = 1024;
/// The outbox is not counted again for this many times as long as counting took: a scrape of a full outbox must not
/// keep a thread busy.
const PAUSE_PER_COUNT: u32 = 20;

/// The last count of the outbox, and the last sign of life of its task.
pub struct Monitor {
    counted: Mutex<Option<Counted>>,
    made: Instant,
    /// In milliseconds since `made`, plus one; 0 before the first.
    beat: AtomicU64,
}

struct Counted {
    at: Instant,
    took: Duration,
    waiting: Vec<Waiting>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self { counted: Mutex::default(), made: real_now(), beat: AtomicU64::new(0) }
    }
}

impl Monitor {
    /// Notes that the task of the outbox goes on.
    pub fn beat(&self) {
        self.beat.store(as_millis(self.made.elapsed()).saturating_add(1), Ordering::Relaxed);
    }

    /// How long ago the task of the outbox last went on. `None` before it has begun.
    pub(super) fn since_beat(&self) -> Option<Duration> {
        let beat = self.beat.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.made.elapsed().saturating_sub(Duration::from_millis(beat)))
    }

    /// The rows of the outbox by kind, from the last count if that is recent.
    pub(super) async fn waiting(&self, core: &Core) -> Result<Vec<Waiting>, Failure> {
        let mut counted = self.counted.lock().await;
        if let Some(Counted { at, took, waiting }) = &*counted
            && at.elapsed() < *took * PAUSE_PER_COUNT
        {
            return Ok(waiting.clone());
        }
        let begun = real_now();
        let mut count = Count::default();
        while let Some(cursor) = count.cursor.take() {
            count = core.store.scan(move |scan| count.step(scan, cursor)).await?;
        }
        *counted = Some(Counted { at: real_now(), took: begun.elapsed(), waiting: count.waiting.clone() });
        Ok(count.waiting)
    }
}

fn real_now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long a count or a step of a task takes is real time")]
    Instant::now()
}

/// A count in bounded steps.
pub(super) struct Count {
    pub waiting: Vec<Waiting>,
    /// Where the next step begins; `None` after the last one.
    pub cursor: Option<Option<(Millis, OutboxKey)>>,
}

impl Default for Count {
    fn default() -> Self {
        let waiting = Kind::ALL.map(|kind| Waiting { kind, rows: 0, oldest: None });
        Self { waiting: waiting.into(), cursor: Some(None) }
    }
}

impl Count {
    pub(super) fn step(
        mut self,
        scan: &Scan<'_>,
        cursor: Option<(Millis, OutboxKey)>,
    ) -> Result<Self, StoreError> {
        let keys = scan.due(Millis(u64::MAX), cursor.as_ref(), COUNT_BATCH)?;
        for (_, key) in &keys {
            let since = match scan.outgoing(key) {
                Ok(row) => row.map(|row| row.since),
                // Retention deletes it.
                Err(error) if error.is_unreadable_row() => None,
                Err(error) => return Err(error),
            };
            for of_kind in self.waiting.iter_mut().filter(|waiting| waiting.kind == key.kind) {
                of_kind.rows += 1;
                of_kind.oldest = of_kind.oldest.into_iter().chain(since).min();
            }
        }
        self.cursor = (keys.len() == COUNT_BATCH).then(|| keys.last().cloned());
        Ok(self)
    }
}
