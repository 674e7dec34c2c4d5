//! The turn of a destination of the outbox: what became of its messages, and what follows for the destination.

use std::time::Duration;

use super::{
    destinations::Outcome,
    mail_lanes::{MAX_QUICK_MAIL, Speed},
};
use crate::{domain::time::Millis, ops::Failure};

/// After so many mails in a row without an answer of the relay, the others to their domain wait.
const MAX_UNANSWERED_MAILS: usize = 3;

/// The result of sending a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The destination answered. The next row may follow.
    Answered,
    /// There was nothing to send, for example because the invitation is gone. This says nothing about the destination.
    Nothing,
    /// The mail was not sent because its recipient has opted out, but took its turn.
    PassedTurn,
    /// The relay gave no answer about this mail.
    Unanswered,
    /// The destination cannot be reached, so the next row would fail as well.
    Unreachable,
    /// The server stops, or had no place for the request, and the row was not sent.
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
    /// How many mails in a row got no answer.
    unanswered: usize,
    has_answered: bool,
    speed: Option<Speed>,
    /// When the last message was sent, or was not.
    last_sent: Option<Millis>,
    /// Why no further row is sent: `Unreachable`, `Stopped`, or a failure of the database.
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
            (Ok(Sent::Answered), _) => (self.unanswered, self.has_answered) = (0, true),
            (Ok(Sent::Unanswered), _) => self.unanswered += 1,
            (Ok(Sent::Nothing | Sent::PassedTurn), _) => {}
            // A failure of the database counts most, then one of the destination.
            (_, Some(Err(_))) | (Ok(_), Some(Ok(Sent::Unreachable))) => {}
            (end, _) => self.end = Some(end),
        }
    }

    /// One quick mail is enough: the relay may be slow about a single mailbox.
    fn speed_after(&self, tried: &Try) -> Option<Speed> {
        match (tried.sent, self.speed) {
            (_, Some(Speed::Quick)) => Some(Speed::Quick),
            (Sent::Answered, _) if tried.took <= MAX_QUICK_MAIL => Some(Speed::Quick),
            (Sent::Answered | Sent::Unanswered, _) => Some(Speed::Slow),
            (Sent::PassedTurn, None) => Some(Speed::Assumed),
            (_, before) => before,
        }
    }

    /// Whether no further row is sent.
    pub fn has_ended(&self) -> bool {
        self.end.is_some() || self.unanswered >= MAX_UNANSWERED_MAILS
    }

    /// How fast the mails were. `None` if there was none.
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
            _ if self.unanswered >= MAX_UNANSWERED_MAILS => failed,
            _ if self.has_answered => Outcome::Succeeded,
            _ if self.unanswered > 0 => Outcome::Failed,
            _ => Outcome::NothingSent,
        })
    }
}

#[cfg(test)]
mod tests {
    use Sent::{Answered, Nothing, PassedTurn, Stopped, Unanswered, Unreachable};

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
            (&[Unanswered, Unanswered, Nothing, Unanswered], Outcome::Failed, Outcome::Failed),
            (&[Answered, Stopped], Outcome::Succeeded, Outcome::Succeeded),
            (&[Unreachable], Outcome::RelayUnreachable, Outcome::Failed),
            (&[Unreachable, Stopped], Outcome::RelayUnreachable, Outcome::Failed),
            (&[Stopped, Unreachable], Outcome::RelayUnreachable, Outcome::Failed),
            (&[Answered, Unreachable], Outcome::FailedAfterSuccess, Outcome::FailedAfterSuccess),
            (&[Unanswered], Outcome::Failed, Outcome::Failed),
            (&[Unanswered, Answered, Unanswered], Outcome::Succeeded, Outcome::Succeeded),
            (&[Unanswered, Unanswered, Unanswered], Outcome::Failed, Outcome::Failed),
            (
                &[Answered, Unanswered, Unanswered, Unanswered],
                Outcome::FailedAfterSuccess,
                Outcome::FailedAfterSuccess,
            ),
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
    fn a_turn_is_slow_without_an_answer_or_with_a_late_one_and_quick_after_one_quick_mail() {
        let late = MAX_QUICK_MAIL + Duration::from_millis(1);
        for (results, took, speed) in [
            (&[Answered][..], MAX_QUICK_MAIL, Some(Speed::Quick)),
            (&[Answered], late, Some(Speed::Slow)),
            (&[Unanswered], Duration::ZERO, Some(Speed::Slow)),
            (&[Unanswered, Answered], Duration::ZERO, Some(Speed::Quick)),
            (&[Answered, Unanswered], Duration::ZERO, Some(Speed::Quick)),
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
}
