//! Rests between the steps of long work, since requests come first.

use std::time::{Duration, Instant};

/// For how many times the length of a step there is a rest after it.
const REST: u32 = 3;

/// No rest is longer.
const LONGEST: Duration = Duration::from_secs(1);

/// Rests after a step that began then.
pub(super) async fn after_step(began: Instant) {
    tokio::time::sleep((began.elapsed() * REST).min(LONGEST)).await;
}
