//! Tells the operator when all accounts together look up more addresses in a day than `lookup.alarm_per_day`. It
//! refuses nothing: the budgets do that, but an attacker with many domains and networks has many of them.

use std::sync::{Mutex, PoisonError};

use crate::{
    domain::{day::Day, time::Millis},
    ops::Core,
};

/// How many addresses were looked up today, since the start of the server.
#[derive(Default)]
pub struct Today(Mutex<Count>);

struct Count {
    day: Day,
    addresses: u64,
}

impl Default for Count {
    fn default() -> Self {
        Self { day: Day(0), addresses: 0 }
    }
}

impl Today {
    /// Adds addresses. Returns how many there were before, and how many there are now.
    fn add(&self, day: Day, addresses: u64) -> (u64, u64) {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count.day != day {
            *count = Count { day, addresses: 0 };
        }
        let before = count.addresses;
        count.addresses = before.saturating_add(addresses);
        (before, count.addresses)
    }
}

/// Counts addresses that were looked up. The count that passes the threshold writes the line of the day.
pub(super) fn count(core: &Core, addresses: usize, now: Millis) {
    let threshold = core.config.lookup.alarm_per_day.get();
    let (before, after) = core.lookups_today.add(Day::of(now), addresses as u64);
    core.metrics.count_looked_up(addresses as u64);
    if before <= threshold && after > threshold {
        core.metrics.show_lookup_alarm(true);
        tracing::warn!(
            threshold,
            "more addresses were looked up today (UTC) than lookup.alarm_per_day: find out who asks with 'bindery log lookups', and refuse homeservers with homeservers.allow"
        );
    }
}

/// Resets the metric when a new day has begun.
pub fn reset(core: &Core) {
    let (_, addresses) = core.lookups_today.add(Day::of(core.clock.now()), 0);
    core.metrics.show_lookup_alarm(addresses > core.config.lookup.alarm_per_day.get());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_counts_from_zero() {
        let today = Today::default();
        assert_eq!(today.add(Day(1), 7), (0, 7));
        assert_eq!(today.add(Day(1), 3), (7, 10));
        assert_eq!(today.add(Day(2), 1), (0, 1));
        assert_eq!(today.add(Day(2), u64::MAX), (1, u64::MAX));
    }
}
