//! The backoff of the mail relay: whether the outbox may send a mail to it now.
//!
//! The relay may give no answer about a recipient, or hang up because of one. Then other mails go on. If that happens
//! for several registrable domains in a row, all mails wait for five seconds. If the relay cannot be reached, all mails
//! wait, each time longer. After such a wait, one mail probes the relay.

use std::{collections::HashSet, time::Duration};

use crate::domain::{backoff::Backoff, outbox::RETRY_FIRST, time::Millis};

/// After so many domains in a row without an answer, all mails wait.
const MAX_UNANSWERED_DOMAINS: usize = 3;
/// The relay is the operator's own, and all mails wait for it.
const BACKOFF: Backoff = Backoff { first: RETRY_FIRST, cap: Duration::from_secs(60) };

/// What happened to the mails since the relay's last answer.
#[derive(Default)]
pub struct RelayState {
    /// The domains of the mails without an answer.
    unanswered: HashSet<String>,
    /// How many times in a row the relay could not be reached.
    failures: u32,
    /// Nothing is sent before this, if there was a failure.
    until: Option<Millis>,
    is_unreachable: bool,
}

impl RelayState {
    /// Whether a mail may be sent while `in_progress` others are being sent.
    pub fn may_try(&self, now: Millis, in_progress: usize) -> bool {
        let is_being_probed = self.is_unreachable && in_progress > 0;
        !self.is_waiting(now) && !is_being_probed
    }

    fn is_waiting(&self, now: Millis) -> bool {
        self.until.is_some_and(|until| !BACKOFF.is_over(until, now))
    }

    /// Whether the relay could not be reached by the last mail. Then one mail probes it.
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
        if self.unanswered.len() >= MAX_UNANSWERED_DOMAINS {
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
        // Mails that were sent at the same time count as one failure.
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
    fn silence_about_recipients_delays_others_by_five_seconds_at_most() {
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
