//! Counts of the last 24 hours, for `bindery status`. They are in memory, in whole hours.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use crate::domain::time::{HOUR, Millis};

const HOURS: u64 = 24;

/// How often each value of a label was counted in each of the last hours.
#[derive(Debug, Default)]
pub(super) struct LastDay(Mutex<BTreeMap<(u64, &'static str), u64>>);

impl LastDay {
    pub(super) fn count(&self, label: &'static str, now: Millis) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = hour(now);
        let is_new = !counts.contains_key(&(hour, label));
        *counts.entry((hour, label)).or_default() += 1;
        if is_new {
            counts.retain(|(counted, _), _| is_recent(*counted, hour));
        }
    }

    /// The sums by label. Labels that were not counted are missing.
    pub(super) fn sums(&self, now: Millis) -> BTreeMap<&'static str, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = BTreeMap::new();
        for ((counted, label), count) in counts.iter() {
            if is_recent(*counted, hour(now)) {
                *sums.entry(*label).or_default() += count;
            }
        }
        sums
    }
}

fn hour(time: Millis) -> u64 {
    time.0 / (HOUR.as_secs() * 1000)
}

/// A later hour was counted before the clock was put back.
fn is_recent(counted: u64, now: u64) -> bool {
    counted <= now && counted + HOURS > now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_counts_for_a_day() {
        let (day, start) = (LastDay::default(), Millis(1_800_000_000_000));
        day.count("accepted", start);
        day.count("accepted", start.after(HOUR));
        day.count("rejected", start.after(HOUR));
        let sums = |time| day.sums(time).into_iter().collect::<Vec<_>>();
        assert_eq!(sums(start.after(HOUR)), [("accepted", 2), ("rejected", 1)]);
        assert_eq!(sums(start.after(HOUR * 24)), [("accepted", 1), ("rejected", 1)]);
        assert_eq!(sums(start.after(HOUR * 25)), []);
        day.count("accepted", start.after(HOUR * 100));
        assert_eq!(day.0.lock().expect("not poisoned").len(), 1, "memory is bounded");
    }
}
