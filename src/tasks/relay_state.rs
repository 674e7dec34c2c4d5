//! Whether the mail relay answers, as the mails of the outbox have shown.
//!
//! A relay may be slow about one recipient, or hang up because of one. Then other mails go on. If it does so for
//! several domains in a row, all mails wait a moment. If it cannot be reached, all wait, longer each time, and then one
//! of them finds out.

use std::{collections::HashSet, time::Duration};

use crate::domain::{backoff::Backoff, outbox::RETRY_FIRST, time::Millis};

/// About how many domains in a row the relay may give no answer.
const MAX_UNANSWERED: usize = 3;
/// The relay is the operator's own, and all mails wait for it.
const BACKOFF: Backoff = Backoff { first: RETRY_FIRST, cap: Duration::from_secs(60) };

/// What the mails since the last answer have shown.
#[derive(Default)]
pub struct RelayState {
    unanswered: HashSet<String>,
    failures: u32,
    /// Nothing is sent before this, if there was a failure.
    until: Option<Millis>,
    is_unreachable: bool,
}

impl RelayState {
    /// Whether a mail may be sent while `in_progress` others are.
    pub fn may_try(&self, now: Millis, in_progress: usize) -> bool {
        let another_finds_out = self.is_unreachable && in_progress > 0;
        !self.is_waiting(now) && !another_finds_out
    }

    fn is_waiting(&self, now: Millis) -> bool {
        self.until.is_some_and(|until| !BACKOFF.is_over(until, now))
    }

    /// Whether one mail must find out if the relay can be reached again.
    pub fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// The relay answered, whatever it said.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// The relay gave no answer after it had heard a recipient in this domain.
    pub fn gave_no_answer(&mut self, domain: &str, now: Millis) {
        self.is_unreachable = false;
        self.unanswered.insert(domain.to_owned());
        if self.unanswered.len() >= MAX_UNANSWERED {
            self.unanswered.clear();
            // Strangers choose recipients. So this wait does not grow, and all mails may be tried after it.
            if !self.is_waiting(now) {
                self.until = Some(now.after(BACKOFF.first));
            }
        }
    }

    /// The relay could not be reached.
    pub fn was_unreachable(&mut self, now: Millis) {
        self.is_unreachable = true;
        // Several mails were on their way; together they are one failure.
        if self.is_waiting(now) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now.after(BACKOFF.wait(self.failures)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_about_recipients_never_stops_the_others_for_longer() {
        let mut relay = RelayState::default();
        let mut now = Millis(1_800_000_000_000);
        for round in 0..100 {
            for domain in ["a.test", "b.test", "c.test"] {
                assert!(relay.may_try(now, 9), "{round} {domain}");
                relay.gave_no_answer(domain, now);
            }
            assert!(!relay.may_try(now.after(Duration::from_millis(4999)), 0));
            now = now.after(Duration::from_secs(5));
        }
    }

    #[test]
    fn each_failure_doubles_the_wait_and_those_of_one_moment_are_one() {
        let mut relay = RelayState::default();
        let mut now = Millis(1_800_000_000_000);
        for wait in [5, 10, 20, 40, 60, 60] {
            for _ in 0..3 {
                relay.was_unreachable(now);
            }
            let later = |millis| now.after(Duration::from_millis(millis));
            assert!(!relay.may_try(later(wait * 1000 - 1), 0), "{wait}");
            assert!(relay.may_try(later(wait * 1000), 0) && !relay.may_try(later(wait * 1000), 1), "{wait}");
            now = later(wait * 1000);
        }
        relay.answered();
        assert!(relay.may_try(now, 1));
    }
}
