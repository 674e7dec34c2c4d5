//! The turn of a destination of the outbox: what became of its messages, and what follows for the destination.

use std::time::Duration;

use super::{
    destinations::Outcome,
    mail_lanes::{MAX_QUICK_MAIL, Speed},
};
use crate::{domain::time::Millis, ops::Failure};

/// The result of sending a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The destination took it. The next row may follow.
    Delivered,
    /// The destination answered that it does not take it. The next row may follow.
    Refused,
    /// There was nothing to send, for example because the invitation is gone. This says nothing about the destination.
    Nothing,
    /// The mail was not sent because its recipient has opted out, but took its turn.
    PassedTurn,
    /// The relay gave no answer about this mail.
    Unanswered,
    /// The destination cannot be reached, so the next row would fail as well.
    Unreachable,
    /// There was no place for the request, and the row was not sent.
    NotAsked,
    /// The server stops, and the row was not sent.
    Stopped,
}

/// A try to send a message.
#[derive(Clone, Copy)]
pub struct Try {
    /// Its result.
    pub sent: Sent,
    /// How long it took, once it had a connection.
    pub took: Duration,
    /// When it ended.
    pub at: Millis,
}

/// The results of a turn.
#[derive(Default)]
pub struct Turn {
    has_answered: bool,
    /// Whether a mail got no answer.
    is_unanswered: bool,
    speed: Option<Speed>,
    /// When the last message was sent, or was not.
    last_sent: Option<Millis>,
    /// Why no further row is sent: `Unreachable`, `NotAsked`, `Stopped`, or a failure of the database.
    end: Option<Result<Sent, Failure>>,
}

impl Turn {
    /// Adds a result.
    pub fn record(&mut self, tried: Result<Try, Failure>) {
        if let Ok(tried) = &tried {
            self.last_sent = Some(tried.at);
            self.speed = self.speed_after(tried);
        }
        match (tried.map(|tried| tried.sent), &self.end) {
            (Ok(Sent::Delivered | Sent::Refused), _) => self.has_answered = true,
            (Ok(Sent::Unanswered), _) => self.is_unanswered = true,
            (Ok(Sent::Nothing | Sent::PassedTurn), _) => {}
            // A failure of the database counts most, then one of the destination.
            (_, Some(Err(_))) | (Ok(_), Some(Ok(Sent::Unreachable))) => {}
            (end, _) => self.end = Some(end),
        }
    }

    /// The last mail decides. A quick refusal says nothing: a stranger's mail server may refuse quickly and then be slow.
    fn speed_after(&self, tried: &Try) -> Option<Speed> {
        match (tried.sent, self.speed) {
            (Sent::Unanswered, _) => Some(Speed::Slow),
            (Sent::Delivered | Sent::Refused, _) if tried.took > MAX_QUICK_MAIL => Some(Speed::Slow),
            (Sent::Delivered, _) => Some(Speed::Quick),
            (Sent::PassedTurn, None) => Some(Speed::Assumed),
            (_, before) => before,
        }
    }

    /// Whether no further row is sent. After a slow mail, the next one takes the slow lane.
    pub fn has_ended(&self) -> bool {
        self.end.is_some() || self.is_unanswered || self.speed == Some(Speed::Slow)
    }

    /// How fast the mails were. `None` if there was none, or they were refused quickly.
    pub fn speed(&self) -> Option<Speed> {
        self.speed
    }

    /// When the last message was sent, or was not.
    pub fn last_sent(&self) -> Option<Millis> {
        self.last_sent
    }

    /// What follows for the destination.
    pub fn outcome(self, is_mail: bool) -> Result<Outcome, Failure> {
        let failed = if self.has_answered { Outcome::FailedAfterSuccess } else { Outcome::Failed };
        Ok(match self.end.transpose()? {
            Some(Sent::Unreachable) if is_mail && !self.has_answered => Outcome::RelayUnreachable,
            Some(Sent::Unreachable) => failed,
            Some(Sent::NotAsked) if !self.has_answered => Outcome::NotAsked,
            _ if self.is_unanswered => failed,
            _ if self.has_answered => Outcome::Succeeded,
            _ => Outcome::NothingSent,
        })
    }
}

#[cfg(test)]
mod tests {
    use Sent::{Delivered, NotAsked, Nothing, PassedTurn, Refused, Stopped, Unanswered, Unreachable};

    use super::*;
    use crate::store::StoreError;

    fn turn(results: &[Option<Sent>], took: Duration) -> Turn {
        let mut turn = Turn::default();
        for result in results {
            let tried = result.map(|sent| Try { sent, took, at: Millis(0) });
            turn.record(tried.ok_or(Failure::Store(StoreError::WriterStopped)));
        }
        turn
    }

    #[test]
    fn the_outcome_of_a_turn_follows_from_its_results_and_a_database_failure_always_counts() {
        let outcome = |results: &[Option<Sent>], is_mail| turn(results, Duration::ZERO).outcome(is_mail).ok();
        for (results, mail, onbind) in [
            (&[][..], Outcome::NothingSent, Outcome::NothingSent),
            (&[Nothing, Stopped], Outcome::NothingSent, Outcome::NothingSent),
            (&[PassedTurn], Outcome::NothingSent, Outcome::NothingSent),
            (&[Delivered, Stopped], Outcome::Succeeded, Outcome::Succeeded),
            (&[Refused], Outcome::Succeeded, Outcome::Succeeded),
            (&[Unreachable], Outcome::RelayUnreachable, Outcome::Failed),
            (&[Unreachable, Stopped], Outcome::RelayUnreachable, Outcome::Failed),
            (&[Stopped, Unreachable], Outcome::RelayUnreachable, Outcome::Failed),
            (&[Delivered, Unreachable], Outcome::FailedAfterSuccess, Outcome::FailedAfterSuccess),
            (&[NotAsked], Outcome::NotAsked, Outcome::NotAsked),
            (&[Delivered, NotAsked], Outcome::Succeeded, Outcome::Succeeded),
            (&[Unanswered], Outcome::Failed, Outcome::Failed),
            (&[Delivered, Unanswered], Outcome::FailedAfterSuccess, Outcome::FailedAfterSuccess),
            (&[Unanswered, Delivered], Outcome::FailedAfterSuccess, Outcome::FailedAfterSuccess),
        ] {
            let results: Vec<_> = results.iter().copied().map(Some).collect();
            assert_eq!(outcome(&results, true), Some(mail), "{results:?}");
            assert_eq!(outcome(&results, false), Some(onbind), "{results:?}");
            // A failure of the database is reported, before and after the other results.
            for at in 0..=results.len() {
                let mut with_failure = results.clone();
                with_failure.insert(at, None);
                assert_eq!(outcome(&with_failure, true), None, "{with_failure:?}");
            }
        }
    }

    #[test]
    fn the_last_mail_decides_how_fast_a_turn_was_and_only_a_delivery_is_quick() {
        let late = MAX_QUICK_MAIL + Duration::from_millis(1);
        for (results, took, speed) in [
            (&[Delivered][..], MAX_QUICK_MAIL, Some(Speed::Quick)),
            (&[Delivered], late, Some(Speed::Slow)),
            (&[Refused], Duration::ZERO, None),
            (&[Refused], late, Some(Speed::Slow)),
            (&[Unanswered], Duration::ZERO, Some(Speed::Slow)),
            (&[Unanswered, Delivered], Duration::ZERO, Some(Speed::Quick)),
            (&[Unanswered, Refused], Duration::ZERO, Some(Speed::Slow)),
            (&[Delivered, Refused], Duration::ZERO, Some(Speed::Quick)),
            (&[Delivered, Unanswered], Duration::ZERO, Some(Speed::Slow)),
            (&[PassedTurn], late, Some(Speed::Assumed)),
            (&[PassedTurn, Unanswered], Duration::ZERO, Some(Speed::Slow)),
            (&[Unanswered, PassedTurn], Duration::ZERO, Some(Speed::Slow)),
            (&[Unreachable], late, None),
            (&[Nothing, Stopped], late, None),
        ] {
            let results: Vec<_> = results.iter().copied().map(Some).collect();
            assert_eq!(turn(&results, took).speed(), speed, "{results:?} {took:?}");
        }
    }

    #[test]
    fn a_slow_mail_ends_the_turn() {
        let late = MAX_QUICK_MAIL + Duration::from_millis(1);
        let has_ended = |sent, took| turn(&[Some(Delivered), Some(sent)], took).has_ended();
        assert!(
            has_ended(Unanswered, Duration::ZERO) && has_ended(Delivered, late) && has_ended(Refused, late)
        );
        assert!(!has_ended(Refused, Duration::ZERO) && !has_ended(PassedTurn, Duration::ZERO));
    }
}
