//! Rehearses the message to a phone that opted out: sends nothing, takes as long as a recent message, and fails while
//! the gateway is unavailable (design, section 4, rule 12).
//!
//! A gateway has no way to rehearse, unlike a mail relay. Whether it can be reached, Bindery tries. What it would answer,
//! only recent messages tell. A caller may choose numbers that it refuses or fails at, so what happened to one caller's
//! messages tells nothing. Trouble counts once several callers have met it with several numbers.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::{Instant, sleep_until};

use super::{
    lengths::Lengths,
    sms::{SmsError, ValidationSms},
};

/// How long trouble counts if no message is sent meanwhile.
const TROUBLE_COUNTS_FOR: Duration = Duration::from_secs(300);
/// How many numbers, accounts and networks must have met the trouble. A stranger alone has one of each, or needs several
/// accounts and networks at a moment when no other person gets a message.
const MIN_WITNESSES: usize = 3;
/// How many messages that met trouble are remembered.
const MAX_TROUBLES: usize = 64;

/// What happened to recent messages.
pub(super) struct Rehearsal {
    sent: Lengths,
    failed: Lengths,
    hasher: RandomState,
    troubles: Mutex<VecDeque<Trouble>>,
}

/// A message that the gateway failed at.
struct Trouble {
    at: Instant,
    number: u64,
    /// The account that asked for it. All homeservers that ask for people without an account are one.
    account: u64,
    /// The IPv4 address or the /48 that asked for it.
    network: Option<IpNet>,
}

impl Default for Rehearsal {
    fn default() -> Self {
        // A gateway on the internet.
        let usual = || Lengths::new(150..600);
        Self { sent: usual(), failed: usual(), hasher: RandomState::new(), troubles: Mutex::default() }
    }
}

impl Rehearsal {
    /// Sends a message, and remembers how long it took and whether the gateway failed.
    pub(super) async fn observe(
        &self,
        sms: &ValidationSms<'_>,
        sending: impl Future<Output = Result<(), SmsError>>,
    ) -> Result<(), SmsError> {
        let started = now();
        let outcome = sending.await;
        match outcome {
            Ok(()) => {
                self.sent.remember(started.elapsed());
                self.end_trouble();
            }
            Err(SmsError::GatewayUnavailable) => {
                self.failed.remember(started.elapsed());
                self.remember_trouble(sms);
            }
            Err(SmsError::Refused) => {}
        }
        outcome
    }

    /// A message was sent, so the gateway works.
    pub(super) fn end_trouble(&self) {
        self.lock().clear();
    }

    fn remember_trouble(&self, sms: &ValidationSms<'_>) {
        let trouble = Trouble {
            at: now(),
            number: self.hasher.hash_one(sms.to.address().as_str()),
            account: self.hasher.hash_one(sms.account.map(|account| account.as_str())),
            network: sms.network.and_around().last(),
        };
        let mut troubles = self.lock();
        troubles.push_back(trouble);
        if troubles.len() > MAX_TROUBLES {
            troubles.pop_front();
        }
    }

    /// Whether so many callers have met trouble that it is the gateway's.
    fn is_in_trouble(&self) -> bool {
        let mut troubles = self.lock();
        troubles.retain(|trouble| trouble.at.elapsed() < TROUBLE_COUNTS_FOR);
        count(troubles.iter().map(|trouble| trouble.number)) >= MIN_WITNESSES
            && count(troubles.iter().map(|trouble| trouble.account)) >= MIN_WITNESSES
            && count(troubles.iter().map(|trouble| trouble.network)) >= MIN_WITNESSES
    }

    /// Takes as long as a recent message. Fails if `reaching` the gateway does, or if the gateway is in trouble.
    pub(super) async fn rehearse(
        &self,
        reaching: impl Future<Output = Result<(), SmsError>>,
    ) -> Result<(), SmsError> {
        let started = now();
        reaching.await?;
        let is_in_trouble = self.is_in_trouble();
        let lengths = if is_in_trouble { &self.failed } else { &self.sent };
        sleep_until(started + lengths.draw()).await;
        if is_in_trouble { Err(SmsError::GatewayUnavailable) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Trouble>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of these differ.
fn count<T: Eq + Hash>(all: impl Iterator<Item = T>) -> usize {
    all.collect::<HashSet<T>>().len()
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long a delivery takes is real time")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{Token, UserId},
        language::Language,
        network::Network,
        phone::PhoneNumber,
    };

    const UNAVAILABLE: Result<(), SmsError> = Err(SmsError::GatewayUnavailable);

    fn quick() -> Rehearsal {
        let quick = || Lengths::new(0..1);
        Rehearsal { sent: quick(), failed: quick(), ..Rehearsal::default() }
    }

    /// Sends a message with this outcome: to the number, for the account and from the network of these numbers.
    async fn send(rehearsal: &Rehearsal, [to, account, network]: [usize; 3], outcome: Result<(), SmsError>) {
        let to = PhoneNumber::parse(&format!("0740012345{to}"), "GB").expect("a number");
        let account = UserId::parse(&format!("@user{account}:hs.test")).expect("a user ID");
        let network = Network::of(format!("2001:db8:{network}::1").parse().expect("an address"));
        let code = Token::parse("012345").expect("a code");
        let sms =
            ValidationSms { to: &to, code: &code, language: Language::En, account: Some(&account), network };
        assert_eq!(rehearsal.observe(&sms, async { outcome }).await, outcome);
    }

    async fn rehearse(rehearsal: &Rehearsal) -> Result<(), SmsError> {
        rehearsal.rehearse(async { Ok(()) }).await
    }

    #[tokio::test]
    async fn numbers_that_one_stranger_chooses_change_nothing() {
        let rehearsal = quick();
        for number in 0..9 {
            send(&rehearsal, [number, 1, 1], Err(SmsError::Refused)).await;
            // Whatever one of the three is the same.
            send(&rehearsal, [number, 1, number], UNAVAILABLE).await;
            send(&rehearsal, [number, 2, number], UNAVAILABLE).await;
            assert_eq!(rehearse(&rehearsal).await, Ok(()), "two accounts");
        }
        rehearsal.end_trouble();
        for number in 0..9 {
            send(&rehearsal, [number, number, number % 2], UNAVAILABLE).await;
            assert_eq!(rehearse(&rehearsal).await, Ok(()), "two networks");
        }
        rehearsal.end_trouble();
        for number in 0..9 {
            send(&rehearsal, [number % 2, number, number], UNAVAILABLE).await;
            assert_eq!(rehearse(&rehearsal).await, Ok(()), "two numbers");
        }
    }

    #[tokio::test]
    async fn trouble_that_three_callers_met_counts_until_a_message_is_sent() {
        let rehearsal = quick();
        for person in 0..3 {
            assert_eq!(rehearse(&rehearsal).await, Ok(()));
            send(&rehearsal, [person; 3], UNAVAILABLE).await;
        }
        assert_eq!(rehearse(&rehearsal).await, UNAVAILABLE);
        send(&rehearsal, [7; 3], Err(SmsError::Refused)).await;
        assert_eq!(rehearse(&rehearsal).await, UNAVAILABLE, "it said nothing of the others");
        send(&rehearsal, [8; 3], Ok(())).await;
        assert_eq!(rehearse(&rehearsal).await, Ok(()));
        send(&rehearsal, [3; 3], UNAVAILABLE).await;
        assert_eq!(rehearse(&rehearsal).await, Ok(()), "and it begins anew");
    }

    #[tokio::test]
    async fn a_gateway_that_cannot_be_reached_fails_at_once() {
        let rehearsal = quick();
        assert_eq!(rehearsal.rehearse(async { UNAVAILABLE }).await, UNAVAILABLE);
        assert_eq!(rehearse(&rehearsal).await, Ok(()));
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let rehearsal = quick();
        for account in 0..2 * MAX_TROUBLES {
            send(&rehearsal, [1, account, account], UNAVAILABLE).await;
        }
        assert_eq!(rehearsal.lock().len(), MAX_TROUBLES);
    }
}
