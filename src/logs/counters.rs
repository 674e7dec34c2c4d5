//! Counts requests as they arrive. Each worker thread has its own counter, so that none waits for another.
//!
//! `ledgers` writes the counts to files.

use std::{
    borrow::Cow,
    hash::RandomState,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::tally::{Row, Tally};
use crate::domain::{
    characters::is_invisible,
    day::Day,
    request_kind::{KINDS, RequestKind},
};

/// The columns of the connection log.
pub(super) const CONNECTION_COLUMNS: [&str; 2] = ["requests", "refused"];

const REQUESTS: usize = 0;
const REFUSED: usize = 1;

/// How many rows a counter may hold between two collections. Further requests share one row.
const MAX_ROWS: usize = 10_000;

/// The counts of one thread since they were last collected.
pub struct Counter(Mutex<Counts>);

/// The counts of a counter.
pub(super) struct Counts {
    pub access: Tally<KINDS>,
    pub connections: Tally<2>,
}

impl Counter {
    pub(super) fn new(hasher: &RandomState) -> Self {
        let (access, connections) =
            (Tally::new(hasher.clone(), MAX_ROWS), Tally::new(hasher.clone(), MAX_ROWS));
        Self(Mutex::new(Counts { access, connections }))
    }

    /// Counts a request. `agent` must come from [`agent`].
    pub fn arrived(&self, day: Day, ip: IpAddr, agent: &str, kind: RequestKind) {
        let mut counts = self.lock();
        counts.access.count(day, ip, agent, kind as usize);
        counts.connections.count(day, ip, "", REQUESTS);
    }

    /// Counts a refused request.
    pub fn refused(&self, day: Day, ip: IpAddr) {
        self.lock().connections.count(day, ip, "", REFUSED);
    }

    /// Takes the counts and resets them.
    pub(super) fn collect(&self) -> (impl Iterator<Item = Row<KINDS>>, impl Iterator<Item = Row<2>>) {
        let mut counts = self.lock();
        (counts.access.take(), counts.connections.take())
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest user agent that is kept, in bytes. Longer ones are cut.
const MAX_AGENT_BYTES: usize = 200;

/// A user agent in a form that is safe to store and show: at most 200 bytes, see [`printable`].
pub fn agent(header: &[u8]) -> Cow<'_, str> {
    let is_plain = header.len() <= MAX_AGENT_BYTES && header.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match std::str::from_utf8(header) {
        Ok(text) if is_plain => Cow::Borrowed(text),
        _ => {
            let mut text = printable(&String::from_utf8_lossy(header));
            text.truncate(text.floor_char_boundary(MAX_AGENT_BYTES));
            Cow::Owned(text)
        }
    }
}

/// Replaces characters that a reader does not see, among them those that control a terminal or the direction of text.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_short_and_controls_nothing() {
        assert_eq!(agent(b"Element/1.11 \"x\""), "Element/1.11 \"x\"");
        assert_eq!(agent(b"a\tb\r\n\x1b[31mc"), "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}[31mc");
        assert_eq!(agent(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(agent("a\u{202e}b\u{3164}c".as_bytes()), "a\u{fffd}b\u{fffd}c");
        assert_eq!(agent(&[b'x'; 201]), "x".repeat(200));
        assert_eq!(agent(&[b'x'; 200]), "x".repeat(200));
        let cut = agent("x\u{fc}".repeat(100).as_bytes()).into_owned();
        assert_eq!(cut, format!("{}x", "x\u{fc}".repeat(66)));
        // The replacement character is longer than the byte that it replaces.
        assert!(agent(&[0xff; 200]).len() <= 200);
        assert_eq!(agent(b""), "");
    }
}
