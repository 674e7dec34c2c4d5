//! The progress of long work, so that a watcher can tell slow from stuck.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A counter of steps, shared by the work and its watchers.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Counts a step.
    pub fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of steps so far.
    pub fn steps(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
