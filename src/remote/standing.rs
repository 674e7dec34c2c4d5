//! Which server names are proven: a homeserver has answered at them lately.
//!
//! Anybody can make up a name that hangs: a port, or a host below a domain that is not theirs. Only what a homeserver
//! says in its own name proves one. So what strangers make up shares no bound with the homeservers that people use.

use std::{convert::Infallible, time::Duration};

use super::cache::AnswerCache;
use crate::domain::{
    backoff::Backoff,
    server_name::ServerName,
    time::{DAY, Millis},
};

/// How long a name stays proven after the latest answer.
const PROVEN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// A name takes at most 230 bytes. So all take at most 2 MiB.
const MAX_PROVEN: usize = 4096;

/// Whether a server name is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// A homeserver has answered at it lately: it confirmed one of its users, or published keys in this name.
    Proven,
    /// Nothing is known of it. After a start, all names are unproven.
    Unproven,
}

/// The proven names, in bounded memory: names of one owner evict none of another.
pub struct ProvenNames(AnswerCache<(), Infallible>);

impl Default for ProvenNames {
    fn default() -> Self {
        // Failures are not inserted: a homeserver that is down for a while keeps its standing.
        Self(AnswerCache::new(MAX_PROVEN, Backoff { first: DAY, cap: DAY }))
    }
}

impl ProvenNames {
    /// The standing of a name.
    pub fn standing(&self, server: &ServerName, now: Millis) -> Standing {
        match self.0.get(server.as_str(), now) {
            Some(_) => Standing::Proven,
            None => Standing::Unproven,
        }
    }

    /// Remembers that a homeserver answered in this name.
    pub fn prove(&self, server: &ServerName, now: Millis) {
        let Ok(()) = self.0.insert(server.as_str(), now, Ok(((), now.after(PROVEN_FOR))));
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
}
