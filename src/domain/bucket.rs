//! A token bucket for rate limits and lookup budgets: a burst, a refill rate, and the wait if it is empty.
//!
//! A bucket is one point in time (the generic cell rate algorithm), so it takes eight bytes.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::{DAY, HOUR, Millis, as_millis};

/// The size and the refill rate of a bucket, as the operator configures them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many requests are allowed at once.
    pub burst: NonZeroU32,
    /// How many are refilled in an hour.
    pub per_hour: NonZeroU32,
}

impl Rate {
    /// Makes a rate; zeros count as one.
    pub fn new(burst: u32, per_hour: u32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self { burst: at_least_one(burst), per_hour: at_least_one(per_hour) }
    }
}

/// The size and the refill rate of a bucket, per any period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    burst: u64,
    /// How many are refilled in one period.
    refill: u64,
    /// The period in microseconds.
    period: u64,
}

impl Pace {
    /// A burst, and a refill per day; zeros count as one.
    pub fn daily(burst: u64, per_day: u64) -> Self {
        Self { burst: burst.max(1), refill: per_day.max(1), period: as_millis(DAY) * 1000 }
    }

    /// How long an empty bucket takes to fill.
    pub fn time_to_fill(self) -> Duration {
        Duration::from_micros(self.micros(self.burst))
    }

    /// How many microseconds it takes to refill one.
    pub fn micros_for_one(self) -> f64 {
        self.period as f64 / self.refill as f64
    }

    /// A third of the bucket, see [`Bucket::take_leaving`].
    pub fn third(self) -> u64 {
        self.burst / 3
    }

    /// The same for `times` as many callers together.
    pub fn times(self, times: u64) -> Self {
        Self { burst: self.burst.saturating_mul(times), refill: self.refill.saturating_mul(times), ..self }
    }

    /// How long it takes to refill `count`, in microseconds.
    fn micros(self, count: u64) -> u64 {
        count.saturating_mul(self.period) / self.refill
    }
}

impl From<Rate> for Pace {
    fn from(rate: Rate) -> Self {
        let period = as_millis(HOUR) * 1000;
        Self { burst: rate.burst.get().into(), refill: rate.per_hour.get().into(), period }
    }
}

/// The state of a bucket: the time at which it will be full, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u64);

impl Bucket {
    /// Restores a stored bucket, see [`Bucket::is_full_at`].
    pub fn full_at(micros: u64) -> Self {
        Self(micros)
    }

    /// The state to store: the time at which the bucket is full, in microseconds since the epoch.
    pub fn is_full_at(self) -> u64 {
        self.0
    }

    /// Takes `cost` out of the bucket. A cost above the bucket's size takes the whole bucket.
    ///
    /// # Errors
    /// How long to wait until the same request is allowed; then nothing was taken.
    pub fn take(&mut self, pace: impl Into<Pace>, cost: u64, now: Millis) -> Result<(), Duration> {
        self.take_leaving(pace, cost, 0, now)
    }

    /// Takes `cost` out of the bucket, but leaves `reserve` in it for others. A cost above the rest takes the whole
    /// rest.
    ///
    /// # Errors
    /// As [`Bucket::take`].
    pub fn take_leaving(
        &mut self,
        pace: impl Into<Pace>,
        cost: u64,
        reserve: u64,
        now: Millis,
    ) -> Result<(), Duration> {
        let pace = pace.into();
        *self = self.no_emptier_than(pace.time_to_fill(), now);
        let (now, most) = (micros(now), pace.burst.saturating_sub(reserve));
        let full_at = self.0.max(now).saturating_add(pace.micros(cost.min(most)));
        let wait = full_at.saturating_sub(pace.micros(most)).saturating_sub(now);
        if wait > 0 {
            // Round up: clocks and answers count milliseconds.
            return Err(Duration::from_millis(wait.div_ceil(1000)));
        }
        self.0 = full_at;
        Ok(())
    }

    /// Refunds what [`Bucket::take_leaving`] took.
    pub fn give_back(&mut self, pace: impl Into<Pace>, cost: u64, reserve: u64) {
        let pace = pace.into();
        let most = pace.burst.saturating_sub(reserve);
        self.0 = self.0.saturating_sub(pace.micros(cost.min(most)));
    }

    /// Takes all that is left.
    pub fn drain(&mut self, pace: impl Into<Pace>, now: Millis) {
        self.0 = micros(now.after(pace.into().time_to_fill()));
    }

    /// Caps the time until the bucket is full at `to_fill`, which is an empty bucket. A longer time means that
    /// the clock was set back; without the cap, callers would wait until the clock catches up.
    pub fn no_emptier_than(self, to_fill: Duration, now: Millis) -> Self {
        let to_fill = u64::try_from(to_fill.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.min(micros(now).saturating_add(to_fill)))
    }

    /// The same bucket if filling it takes `times` as long from now on.
    pub fn stretched(self, times: f64, now: Millis) -> Self {
        let now = micros(now);
        let missing = self.0.saturating_sub(now) as f64 * times;
        Self(now.saturating_add(missing as u64))
    }

    /// Whether it is full. A full bucket need not be kept: it equals a new one.
    pub fn is_full(self, now: Millis) -> bool {
        self.0 <= micros(now)
    }
}

fn micros(now: Millis) -> u64 {
    now.0.saturating_mul(1000)
}

/// The waits that a refusal by a shared bucket may name.
const COARSE_WAITS: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    HOUR,
    Duration::from_secs(6 * 3600),
];

/// Rounds a wait up: to a coarse step, and beyond the steps to whole days. An exact wait would tell a caller how many
/// requests others have made.
pub fn coarse(wait: Duration) -> Duration {
    let step = COARSE_WAITS.into_iter().find(|step| wait <= *step);
    step.unwrap_or_else(|| {
        let days = as_millis(wait).div_ceil(as_millis(DAY));
        DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    #[test]
    fn the_wait_is_the_shortest_that_does() {
        for (burst, per_day) in [(1, 1), (10_000, 5000), (100_000, 50_000), (7, 1_000_003), (3, u64::MAX)] {
            let (pace, mut bucket) = (Pace::daily(burst, per_day), Bucket::default());
            bucket.take(pace, burst, NOW).expect("it was full");
            let Err(wait) = bucket.take(pace, 1, NOW) else {
                assert_eq!(per_day, u64::MAX, "an empty bucket gives nothing");
                continue;
            };
            let just_before = NOW.after(wait - Duration::from_millis(1));
            assert_eq!(bucket.take(pace, 1, just_before), Err(Duration::from_millis(1)));
            assert_eq!(bucket.take(pace, 1, NOW.after(wait)), Ok(()));
        }
    }

    #[test]
    fn what_is_reserved_is_left_and_what_was_taken_can_be_given_back() {
        let (pace, mut bucket) = (Pace::daily(30, 60), Bucket::default());
        bucket.take_leaving(pace, 20, 10, NOW).expect("it was full");
        let wait = bucket.take_leaving(pace, 1, 10, NOW).expect_err("the rest is reserved");
        assert_eq!(wait, DAY / 60);
        bucket.take(pace, 10, NOW).expect("the reserve");
        assert_eq!(bucket.take_leaving(pace, 1, 10, NOW), Err(11 * DAY / 60), "the reserve fills first");
        bucket.give_back(pace, 10, 0);
        bucket.give_back(pace, 20, 10);
        assert!(bucket.is_full(NOW));
        bucket.take_leaving(pace, 1000, 10, NOW).expect("all but the reserve");
        bucket.take(pace, 10, NOW).expect("the reserve");
        bucket.drain(pace, NOW);
        assert_eq!(bucket.take(pace, 30, NOW), Err(DAY / 2));
    }

    #[test]
    fn a_coarse_wait_is_never_too_short_and_there_are_few() {
        let steps = [(0, 60), (1, 60), (60_000, 60), (60_001, 300), (899_999, 900), (900_001, 3600)];
        for (wait, seconds) in steps {
            assert_eq!(coarse(Duration::from_millis(wait)), Duration::from_secs(seconds), "{wait}");
        }
        assert_eq!(coarse(HOUR * 5), HOUR * 6);
        assert_eq!(coarse(HOUR * 7), DAY);
        assert_eq!(coarse(DAY + Duration::from_millis(1)), 2 * DAY);
        assert!(coarse(Duration::MAX) >= 1000 * DAY);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_no_bucket() {
        let (pace, mut bucket) = (Pace::daily(10_000, 5000), Bucket::default());
        let ahead = NOW.after(365 * DAY);
        bucket.take(pace, 1, ahead).expect("it was full");
        let wait = bucket.take(pace, 10_000, NOW).expect_err("it is empty at worst");
        assert_eq!(wait, 2 * DAY);
        let wait = bucket.take(pace, 1, NOW.after(DAY));
        assert_eq!(wait, Ok(()), "half of it has come back a day later");
    }
}
