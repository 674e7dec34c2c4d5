//! Gives a message that must not leave the duration and the outcome that it would have had (design, section 4,
//! rule 12): a caller must not learn which addresses have opted out.
//!
//! The caller waits while a message is delivered, because it must hear if that fails. So a message to an address
//! that opted out takes as long as a recent real one, drawn at random, and fails while real ones fail.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    domain::threepid::{Address, Medium},
    ops::random,
};

/// How many recent deliveries are remembered for each outcome.
const MAX_REMEMBERED: usize = 64;

/// How many different recipients must be refused in a row until this counts as trouble of the relay or gateway.
/// Otherwise a caller could make it seem so with a few mailboxes that are full.
const REFUSED_IN_A_ROW: usize = 5;

/// How long after the last failed delivery the relay or gateway is still believed to fail.
const FAILING_FOR: Duration = Duration::from_secs(300);

/// How long a delivery takes as long as none is remembered: a relay close by, a gateway on the internet.
const USUAL_MAIL_MILLIS: Range<u64> = 20..80;
const USUAL_SMS_MILLIS: Range<u64> = 150..600;

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDelivered {
    /// There is no such recipient. This says nothing about others, and anybody can cause it.
    NoRecipient,
    /// The relay or the gateway did not accept a message to this recipient. If it accepts none to several, it is
    /// about all.
    Recipient,
    /// The relay or the gateway could not be reached, or accepts nothing now.
    Transport,
}

/// The recent deliveries of mails and of messages to phones.
pub struct Deliveries {
    mails: Recent,
    messages: Recent,
}

impl Default for Deliveries {
    fn default() -> Self {
        Self { mails: Recent::new(USUAL_MAIL_MILLIS), messages: Recent::new(USUAL_SMS_MILLIS) }
    }
}

impl Deliveries {
    /// Delivers a message, and remembers how long it took and whether it worked.
    pub async fn observe(
        &self,
        to: &Address,
        delivery: impl Future<Output = Result<(), NotDelivered>>,
    ) -> Result<(), NotDelivered> {
        let started = now();
        let outcome = delivery.await;
        self.of(to.medium()).lock().remember(to, started.elapsed(), outcome);
        outcome
    }

    /// Waits as long as a delivery takes, and fails if deliveries fail now.
    pub async fn imitate(&self, medium: Medium) -> Result<(), NotDelivered> {
        let (length, outcome) = self.of(medium).draw();
        sleep(length).await;
        outcome
    }

    fn of(&self, medium: Medium) -> &Recent {
        match medium {
            Medium::Email => &self.mails,
            Medium::Msisdn => &self.messages,
        }
    }
}

/// The recent deliveries over one transport.
struct Recent {
    usual_millis: Range<u64>,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    delivered: VecDeque<Duration>,
    failed: VecDeque<Duration>,
    /// The recipients that were refused since the last delivery.
    refused: Vec<Address>,
    failing_since: Option<Instant>,
}

impl Recent {
    fn new(usual_millis: Range<u64>) -> Self {
        Self { usual_millis, past: Mutex::default() }
    }

    fn draw(&self) -> (Duration, Result<(), NotDelivered>) {
        let past = self.lock();
        let is_failing = past.failing_since.is_some_and(|since| since.elapsed() < FAILING_FOR);
        let (lengths, outcome) = match is_failing {
            true => (&past.failed, Err(NotDelivered::Transport)),
            false => (&past.delivered, Ok(())),
        };
        let drawn = u64::from_le_bytes(random());
        let usual = || {
            let Range { start, end } = self.usual_millis;
            Duration::from_millis(start + drawn % (end - start))
        };
        let index = drawn as usize % lengths.len().max(1);
        (lengths.get(index).copied().unwrap_or_else(usual), outcome)
    }

    fn lock(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    fn remember(&mut self, to: &Address, length: Duration, outcome: Result<(), NotDelivered>) {
        let lengths = if outcome.is_ok() { &mut self.delivered } else { &mut self.failed };
        lengths.push_back(length);
        if lengths.len() > MAX_REMEMBERED {
            lengths.pop_front();
        }
        match outcome {
            Ok(()) => {
                self.refused.clear();
                self.failing_since = None;
            }
            Err(NotDelivered::NoRecipient) => {}
            Err(NotDelivered::Transport) => self.failing_since = Some(now()),
            Err(NotDelivered::Recipient) => {
                if self.refused.len() < REFUSED_IN_A_ROW && !self.refused.contains(to) {
                    self.refused.push(to.clone());
                }
                if self.refused.len() >= REFUSED_IN_A_ROW {
                    self.failing_since = Some(now());
                }
            }
        }
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long a delivery takes is real time")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome_after(past: &[(usize, Result<(), NotDelivered>)]) -> Result<(), NotDelivered> {
        let recent = Recent::new(USUAL_MAIL_MILLIS);
        for (number, outcome) in past {
            let to = Address::email(&format!("address{number}@example.org")).expect("an address");
            recent.lock().remember(&to, Duration::from_millis(7), *outcome);
        }
        recent.draw().1
    }

    #[test]
    fn a_caller_cannot_make_the_relay_seem_to_fail() {
        use NotDelivered::{NoRecipient, Recipient, Transport};
        assert_eq!(outcome_after(&[]), Ok(()));
        assert_eq!(outcome_after(&[(1, Ok(())), (2, Err(Transport))]), Err(Transport));
        assert_eq!(outcome_after(&[(1, Err(Transport)), (2, Ok(()))]), Ok(()));
        let refused = |numbers: &[usize]| numbers.iter().map(|n| (*n, Err(Recipient))).collect::<Vec<_>>();
        assert_eq!(outcome_after(&refused(&[1, 1, 1, 1, 1, 1, 2])), Ok(()));
        assert_eq!(outcome_after(&refused(&[1, 2, 3, 4, 5])), Err(Transport));
        let unknown: Vec<_> = (0..100).map(|number| (number, Err(NoRecipient))).collect();
        assert_eq!(outcome_after(&unknown), Ok(()));
        let with_one_delivered = [refused(&[1, 2, 3, 4]), vec![(9, Ok(()))], refused(&[5])].concat();
        assert_eq!(outcome_after(&with_one_delivered), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_a_length_is_a_recent_one() {
        let recent = Recent::new(USUAL_MAIL_MILLIS);
        let to = Address::email("a@example.org").expect("an address");
        let usual = recent.draw().0.as_millis();
        assert!((20..80).contains(&usual), "{usual}");
        for millis in 0..1000 {
            recent.lock().remember(&to, Duration::from_millis(millis), Ok(()));
        }
        assert_eq!(recent.lock().delivered.len(), MAX_REMEMBERED);
        assert!((0..100).all(|_| recent.draw().0 >= Duration::from_millis(936)));
    }
}
