//! Counts the bounded steps of work that takes long (repair, migration, rewrite), so that a watchdog can tell
//! slow from stuck.
//!
//! The count belongs to the process and not to a store, because repair and migration run before there is one.

use std::sync::atomic::{AtomicU64, Ordering};

static STEPS: AtomicU64 = AtomicU64::new(0);

/// Notes that a bounded step is over.
pub(super) fn step() {
    STEPS.fetch_add(1, Ordering::Relaxed);
}

/// How many steps this process has finished.
pub fn steps_done() -> u64 {
    STEPS.load(Ordering::Relaxed)
}
