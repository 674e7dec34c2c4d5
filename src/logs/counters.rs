//! Counting requests where they arrive: for each thread that answers a counter of its own, so that
//! none waits for another.
//!
//! Writing down what was counted is in `ledgers`.

use std::{
    borrow::Cow,
    hash::RandomState,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::tally::{Row, Tally};
use crate::domain::day::Day;

/// What a request is for, as the access log counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Looking up addresses.
    Lookup,
    /// Asking for the pepper.
    HashDetails,
    /// Registering.
    Register,
    /// One's own account, logout, and the terms.
    Account,
    /// Proving an address.
    Validation,
    /// Publishing an address.
    Bind,
    /// Withdrawing an address.
    Unbind,
    /// Inviting, and taking up an invitation.
    Invite,
    /// Public keys.
    Keys,
    /// Versions and ping.
    Status,
    /// Pages for people.
    Page,
    /// Anything else.
    Other,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 12;

/// The columns of the access log, in the order of [`RequestKind`].
pub(super) const KIND_COLUMNS: [&str; KINDS] = [
    "lookup",
    "hash_details",
    "register",
    "account",
    "validation",
    "bind",
    "unbind",
    "invite",
    "keys",
    "status",
    "page",
    "other",
];

/// The columns of the connection log.
pub(super) const CONNECTION_COLUMNS: [&str; 2] = ["requests", "refused"];

const REQUESTS: usize = 0;
const REFUSED: usize = 1;

/// How many rows a counter may have before they are collected.
const MOST: usize = 10_000;

/// The counts of one thread since they were last collected.
pub struct Counter(Mutex<Counts>);

/// What a counter has counted.
pub(super) struct Counts {
    pub access: Tally<KINDS>,
    pub connections: Tally<2>,
}

impl Counter {
    pub(super) fn new(hasher: &RandomState) -> Self {
        let (access, connections) = (Tally::new(hasher.clone(), MOST), Tally::new(hasher.clone(), MOST));
        Self(Mutex::new(Counts { access, connections }))
    }

    /// Counts a request; `agent` as [`agent`] gives it.
    pub fn arrived(&self, day: Day, ip: IpAddr, agent: &str, kind: RequestKind) {
        let mut counts = self.lock();
        counts.access.count(day, ip, agent, kind as usize);
        counts.connections.count(day, ip, "", REQUESTS);
    }

    /// Counts that a request was refused.
    pub fn refused(&self, day: Day, ip: IpAddr) {
        self.lock().connections.count(day, ip, "", REFUSED);
    }

    /// Takes out what was counted.
    pub(super) fn collect(&self) -> (impl Iterator<Item = Row<KINDS>>, impl Iterator<Item = Row<2>>) {
        let mut counts = self.lock();
        (counts.access.take(), counts.connections.take())
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest user agent that is kept, in bytes.
const AGENT: usize = 200;

/// What a program calls itself, as it may be kept and shown: text of at most 200 bytes in which
/// nothing controls a terminal or the direction of writing.
pub fn agent(header: &[u8]) -> Cow<'_, str> {
    let is_plain = header.len() <= AGENT && header.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match std::str::from_utf8(header) {
        Ok(text) if is_plain => Cow::Borrowed(text),
        _ => {
            let mut text = printable(&String::from_utf8_lossy(header));
            text.truncate(text.floor_char_boundary(AGENT));
            Cow::Owned(text)
        }
    }
}

/// A text with a mark in place of what controls a terminal or the direction of writing.
pub fn printable(text: &str) -> String {
    let is_control = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().map(|c| if is_control(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_column() {
        assert_eq!(KIND_COLUMNS[RequestKind::Lookup as usize], "lookup");
        assert_eq!(KIND_COLUMNS[RequestKind::Unbind as usize], "unbind");
        assert_eq!(RequestKind::Other as usize, KINDS - 1);
    }

    #[test]
    fn a_user_agent_is_short_and_controls_nothing() {
        assert_eq!(agent(b"Element/1.11 \"x\""), "Element/1.11 \"x\"");
        assert_eq!(agent(b"a\tb\r\n\x1b[31mc"), "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}[31mc");
        assert_eq!(agent(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(agent("a\u{202e}b".as_bytes()), "a\u{fffd}b");
        assert_eq!(agent(&[b'x'; 201]), "x".repeat(200));
        assert_eq!(agent(&[b'x'; 200]), "x".repeat(200));
        let cut = agent("x\u{fc}".repeat(100).as_bytes()).into_owned();
        assert_eq!(cut, format!("{}x", "x\u{fc}".repeat(66)));
        // What replaces a byte is longer than the byte.
        assert!(agent(&[0xff; 200]).len() <= 200);
        assert_eq!(agent(b""), "");
    }
}
