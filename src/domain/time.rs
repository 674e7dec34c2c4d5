//! Points in time and lengths of time, both in milliseconds as the specification counts them.
//!
//! Nothing here reads a clock; the clock is a trait of `ops`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// The point in time `length` later; saturates at the end of time.
    pub fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(as_millis(length)))
    }

    /// The UTC day, counted from the epoch.
    pub fn day(self) -> u64 {
        self.0 / as_millis(DAY)
    }

    /// How long it is until the next UTC day begins.
    pub fn rest_of_day(self) -> Duration {
        DAY - Duration::from_millis(self.0 % as_millis(DAY))
    }
}

/// A length of time as whole milliseconds.
pub fn as_millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// One hour.
pub const HOUR: Duration = Duration::from_secs(3600);

/// One day.
pub const DAY: Duration = Duration::from_secs(24 * 3600);
