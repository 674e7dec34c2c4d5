//! How far long work has come, so that whoever watches it can tell slow from stuck.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A count of steps, shared by the work and whoever watches it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Counts a step.
    pub fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many steps were made so far.
    pub fn steps(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
