//! A token bucket: so many at once, so many an hour, and how long to wait otherwise.
//!
//! Implemented as one point in time (the generic cell rate algorithm), so that a bucket is eight
//! bytes. Who has which bucket is not its business.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::{HOUR, Millis, as_millis};

/// The size of a bucket and the speed at which it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many may come at once.
    pub burst: NonZeroU32,
    /// How many come back in an hour.
    pub per_hour: NonZeroU32,
}

impl Rate {
    /// A rate; zeros count as one.
    pub fn new(burst: u32, per_hour: u32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self { burst: at_least_one(burst), per_hour: at_least_one(per_hour) }
    }
}

/// The state of a bucket: the moment, in microseconds, at which it will be full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u64);

impl Bucket {
    /// The state as it was stored: the moment, in microseconds since the epoch, at which it is full.
    pub fn full_at(micros: u64) -> Self {
        Self(micros)
    }

    /// The state to be stored, see [`Bucket::full_at`].
    pub fn is_full_at(self) -> u64 {
        self.0
    }

    /// Takes `cost` out of the bucket.
    ///
    /// A cost greater than the burst is allowed from a full bucket and then paid off, so that
    /// one large request is slowed down and never impossible.
    ///
    /// # Errors
    /// How long to wait until the same request would be allowed; nothing was taken.
    pub fn take(&mut self, rate: Rate, cost: u32, now: Millis) -> Result<(), Duration> {
        let now = now.0.saturating_mul(1000);
        let each = micros_each(rate);
        let room = each.saturating_mul(u64::from(rate.burst.get().max(cost)));
        let full_at = self.0.max(now).saturating_add(each.saturating_mul(u64::from(cost)));
        let earliest = full_at.saturating_sub(room);
        if earliest > now {
            return Err(Duration::from_micros(earliest - now));
        }
        self.0 = full_at;
        Ok(())
    }

    /// Gives back what [`Bucket::take`] took.
    pub fn give_back(&mut self, rate: Rate, cost: u32) {
        self.0 = self.0.saturating_sub(micros_each(rate).saturating_mul(u64::from(cost)));
    }

    /// Whether it is full, and so no different from one that was never used.
    pub fn is_full(self, now: Millis) -> bool {
        self.0 <= now.0.saturating_mul(1000)
    }
}

fn micros_each(rate: Rate) -> u64 {
    as_millis(HOUR) * 1000 / u64::from(rate.per_hour.get())
}
