//! Time that passes: the clock moves on as it does in life, without a jump that would stop what the
//! server deletes for its age.

use std::time::Duration;

use super::Server;

/// The longest step that is no jump.
const STEP: Duration = Duration::from_secs(23 * 3600);

impl Server {
    /// Lets so much time pass, and everything go that reaches its age in it.
    pub async fn pass(&self, length: Duration) {
        let mut left = length;
        while !left.is_zero() {
            let step = left.min(STEP);
            self.clock.forward(step);
            left -= step;
            self.round_is_done().await;
        }
    }

    /// Waits until everything is deleted that has reached its age by now.
    pub async fn round_is_done(&self) {
        let now = bindery::domain::clock::Clock::now(&*self.clock).0 / 1000;
        self.until("a round of retention", async || self.last_round().await == now).await;
    }

    /// When the last round was begun, in seconds.
    pub async fn last_round(&self) -> u64 {
        let metrics = self.metrics().await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("bindery_retention_last_success_timestamp_seconds "));
        line.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}
