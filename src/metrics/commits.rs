//! Counts the commits of the database. Only the thread that writes it counts here.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};

/// The commits since the database was opened.
#[derive(Debug)]
pub struct Commits {
    writes: Histogram,
    duration: Histogram,
    failures: Counter,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            writes: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]),
            duration: Histogram::new([0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]),
            failures: Counter::default(),
        }
    }
}

impl Commits {
    /// Counts a commit of a batch of writes.
    pub fn count(&self, writes: usize, took: Duration) {
        self.writes.observe(writes as f64);
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a batch that was undone.
    pub fn count_failure(&self) {
        self.failures.inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Writes that shared a commit";
        registry.register("commit_writes", help, self.writes.clone());
        let help = "Duration of a commit with the work before it and the fsync";
        registry.register("commit_duration_seconds", help, self.duration.clone());
        let help = "Batches of writes that were undone, because the disk or a write of the batch failed";
        registry.register("write_failures", help, self.failures.clone());
    }
}
