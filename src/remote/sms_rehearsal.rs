//! Rehearses the message to a phone that opted out: sends nothing, takes as long as a recent message, and fails while
//! the gateway is unavailable (design, section 4, rule 12).
//!
//! A gateway has no way to rehearse, unlike a mail relay. So what happened to recent messages decides, but never what
//! it said about a number: a caller may choose numbers that it refuses.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{lengths::Lengths, sms::SmsError};

/// How long after the last failure the gateway is still believed to be unavailable.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(300);

/// What happened to recent messages.
pub(super) struct Rehearsal {
    sent: Lengths,
    failed: Lengths,
    unavailable_since: Mutex<Option<Instant>>,
}

impl Default for Rehearsal {
    fn default() -> Self {
        // A gateway on the internet.
        let usual = || Lengths::new(150..600);
        Self { sent: usual(), failed: usual(), unavailable_since: Mutex::default() }
    }
}

impl Rehearsal {
    /// Sends a message, and remembers how long it took and whether the gateway was available.
    pub(super) async fn observe(
        &self,
        sending: impl Future<Output = Result<(), SmsError>>,
    ) -> Result<(), SmsError> {
        let started = now();
        let outcome = sending.await;
        let length = started.elapsed();
        let mut since = self.unavailable_since.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => {
                self.sent.remember(length);
                *since = None;
            }
            Err(SmsError::GatewayUnavailable) => {
                self.failed.remember(length);
                *since = Some(now());
            }
            Err(SmsError::Refused) => {}
        }
        outcome
    }

    /// Takes as long as a recent message, and fails if the gateway is unavailable.
    pub(super) async fn rehearse(&self) -> Result<(), SmsError> {
        let since = *self.unavailable_since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unavailable = since.is_some_and(|since| since.elapsed() < UNAVAILABLE_FOR);
        let lengths = if is_unavailable { &self.failed } else { &self.sent };
        sleep(lengths.draw()).await;
        if is_unavailable { Err(SmsError::GatewayUnavailable) } else { Ok(()) }
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "how long a delivery takes is real time")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_that_the_gateway_refuses_change_nothing() {
        let quick = || Lengths::new(0..1);
        let rehearsal = Rehearsal { sent: quick(), failed: quick(), ..Rehearsal::default() };
        let outcome_after = async |outcome| {
            let _ = rehearsal.observe(async { outcome }).await;
            rehearsal.rehearse().await
        };
        for _ in 0..3 {
            assert_eq!(outcome_after(Err(SmsError::Refused)).await, Ok(()));
        }
        assert_eq!(outcome_after(Err(SmsError::GatewayUnavailable)).await, Err(SmsError::GatewayUnavailable));
        assert_eq!(
            outcome_after(Err(SmsError::Refused)).await,
            Err(SmsError::GatewayUnavailable),
            "it may be gone still"
        );
        assert_eq!(outcome_after(Ok(())).await, Ok(()));
    }
}
