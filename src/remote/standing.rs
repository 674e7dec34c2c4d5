//! Which server names are proven: a homeserver has answered at them lately.
//!
//! Anybody can make up a name that hangs: a port, or a host below a domain that is not theirs. Only what a homeserver
//! says in its own name proves one. So what strangers make up shares no bound with the homeservers that people use.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::cache::AnswerCache;
use crate::domain::{
    backoff::Backoff,
    server_name::ServerName,
    time::{DAY, Millis},
};

/// How long a name stays proven after the latest answer.
const PROVEN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// After so many requests in a row without an answer, a name is unproven until it answers again. Otherwise a stranger's
/// homeserver could answer once, and then hold places for a month.
const MAX_UNANSWERED: u32 = 3;
/// A name takes at most 230 bytes. So all take at most 2 MiB.
const MAX_PROVEN: usize = 4096;

/// Whether a server name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// A homeserver has answered at it lately: it confirmed one of its users, or published keys in this name. Or the
    /// operator names it.
    Proven,
    /// Nothing is known of it, or it has stopped answering. After a start, all names are unproven that the
    /// operator does not name.
    Unproven,
}

/// The proven names, each with the number of requests since its latest answer. Memory is bounded: names of one owner
/// evict none of another.
pub struct ProvenNames(AnswerCache<Arc<AtomicU32>, Infallible>);

impl Default for ProvenNames {
    fn default() -> Self {
        // Failures are not inserted, so this backoff is never used.
        Self(AnswerCache::new(MAX_PROVEN, Backoff { first: DAY, cap: DAY }))
    }
}

impl ProvenNames {
    /// The standing of a name.
    pub fn standing(&self, server: &ServerName, now: Millis) -> Standing {
        match self.unanswered(server, now) {
            Some(unanswered) if unanswered.load(Ordering::Relaxed) < MAX_UNANSWERED => Standing::Proven,
            Some(_) | None => Standing::Unproven,
        }
    }

    fn unanswered(&self, server: &ServerName, now: Millis) -> Option<Arc<AtomicU32>> {
        let Ok(unanswered) = self.0.get(server.as_str(), now)?.answer;
        Some(unanswered)
    }

    /// Counts a request without an answer.
    pub fn count_unanswered(&self, server: &ServerName, now: Millis) {
        if let Some(unanswered) = self.unanswered(server, now) {
            unanswered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Remembers that a homeserver answered in this name.
    pub fn prove(&self, server: &ServerName, now: Millis) {
        let Ok(_) = self.0.insert(server.as_str(), now, Ok((Arc::default(), now.after(PROVEN_FOR))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_proven_for_a_month_after_its_latest_answer() {
        let (names, now) = (ProvenNames::default(), Millis(1_800_000_000_000));
        let server = |name| ServerName::parse(name).expect("a server name");
        names.prove(&server("example.org"), now);
        names.prove(&server("example.org"), now.after(DAY));
        let standing = |name, at| names.standing(&server(name), at);
        let last = Millis(now.after(DAY).after(PROVEN_FOR).0 - 1);
        assert_eq!(standing("example.org", last), Standing::Proven);
        assert_eq!(standing("example.org", Millis(last.0 + 1)), Standing::Unproven);
        for name in ["example.org:1", "x.example.org", "example.net"] {
            assert_eq!(standing(name, last), Standing::Unproven, "{name}");
        }
    }

    #[test]
    fn a_name_that_does_not_answer_three_times_in_a_row_is_unproven_until_it_answers() {
        let (names, now) = (ProvenNames::default(), Millis(1_800_000_000_000));
        let server = ServerName::parse("example.org").expect("a server name");
        let answer = |answers: bool| {
            match answers {
                true => names.prove(&server, now),
                false => names.count_unanswered(&server, now),
            }
            names.standing(&server, now) == Standing::Proven
        };
        let answers = [false, true, false, false, true, false, false, false, false, true, false];
        let proven = [false, true, true, true, true, true, true, false, false, true, true];
        assert_eq!(answers.map(answer), proven);
    }
}
