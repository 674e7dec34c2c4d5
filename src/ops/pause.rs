//! Pauses between the steps of long work, so that requests are served first.

use std::time::{Duration, Instant};

/// A pause is this many times as long as the step before it ...
const PAUSE_PER_STEP: u32 = 3;

/// ... and never longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Pauses after a step that began at `begun`.
pub(super) async fn after_step(begun: Instant) {
    tokio::time::sleep((begun.elapsed() * PAUSE_PER_STEP).min(MAX_PAUSE)).await;
}
