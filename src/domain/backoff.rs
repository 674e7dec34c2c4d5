//! Exponential backoff: how long to wait before the next retry.

use std::time::Duration;

use super::time::Millis;

/// The wait after a first failure; each further failure in a row doubles it, up to a cap.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Backoff {
    /// How long to wait after so many failures in a row, the latest included.
    pub fn wait(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1);
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.cap)
    }

    /// Whether a wait has ended that was to last until `until`. One that would last longer than any was begun by a
    /// clock that has been put back since.
    pub fn is_over(self, until: Millis, now: Millis) -> bool {
        now >= until || until > now.after(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_whatever_the_number_of_failures() {
        let backoff = Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(60) };
        let waits = [1, 2, 3, 4, 5, 6, 1000, u32::MAX].map(|failures| backoff.wait(failures).as_secs());
        assert_eq!(waits, [5, 10, 20, 40, 60, 60, 60, 60]);
        let now = Millis(1_800_000_000_000);
        let until = now.after(backoff.cap);
        assert!(!backoff.is_over(until, now) && backoff.is_over(until, until));
        assert!(backoff.is_over(until, Millis(now.0 - 1)), "the clock was put back");
        let constant = Backoff { cap: backoff.first, ..backoff };
        assert_eq!([1, 2, 9].map(|failures| constant.wait(failures).as_secs()), [5; 3]);
    }
}
