//! Sums up repeated lines of the operator's log: of each kind of line that a request can cause, one a minute is
//! written, and a few more that say something else. Otherwise anybody could fill the log with requests that are
//! refused.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    time::{Duration, Instant},
};

use tracing::{Level, Metadata, callsite::Identifier};

/// How long further lines of a kind are summed up.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// How many different lines of a kind are written in that time: a relay may refuse for several reasons.
const MAX_DIFFERENT: usize = 8;

/// Requests can cause the lines of these modules, for example while the disk is full or no descriptor is left. Other
/// modules log only at the start, at the end, or by a timer.
const CAUSED_BY_REQUESTS: [&str; 6] = [
    "actix_server",
    "bindery::http",
    "bindery::logs",
    "bindery::ops",
    "bindery::remote",
    "bindery::tasks::outbox",
];

/// The kinds of lines of the last minute.
pub struct Sums<Kind> {
    kinds: HashMap<Kind, Sum>,
    hasher: RandomState,
}

impl<Kind> Default for Sums<Kind> {
    fn default() -> Self {
        Self { kinds: HashMap::new(), hasher: RandomState::new() }
    }
}

struct Sum {
    began: Instant,
    left_out: u64,
    /// The first line that was written.
    line: String,
    /// The hashes of all lines that were written, without their times.
    written: Vec<u64>,
}

/// Lines that were not written.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub times: u64,
    /// The first line of their kind.
    pub like: String,
}

/// The kind of a line, if it is to be summed up. Lines for debugging are not: the operator asks for all of them.
pub fn kind(line: &Metadata<'_>) -> Option<Identifier> {
    let target = line.target();
    let is_caused = CAUSED_BY_REQUESTS.iter().any(|module| {
        target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    });
    (is_caused && *line.level() <= Level::INFO).then(|| line.callsite())
}

impl<Kind: Eq + Hash> Sums<Kind> {
    /// Whether a line is to be written. Counts it otherwise.
    pub fn admit(&mut self, kind: Kind, line: &str, now: Instant) -> bool {
        // The time ends at the first blank of a line of text, and at the first comma of a line of JSON.
        let said = line.split_once([' ', ',']).map_or(line, |(_, said)| said);
        let hash = self.hasher.hash_one(said);
        let new = || Sum { began: now, left_out: 0, line: line.trim_end().to_owned(), written: Vec::new() };
        let sum = self.kinds.entry(kind).or_insert_with(new);
        let is_written = !sum.written.contains(&hash) && sum.written.len() < MAX_DIFFERENT;
        if is_written {
            sum.written.push(hash);
        } else {
            sum.left_out += 1;
        }
        is_written
    }

    /// Takes the sums of the minutes that are over.
    pub fn take_due(&mut self, now: Instant) -> Vec<LeftOut> {
        let due = self.kinds.extract_if(|_, sum| now.duration_since(sum.began) >= INTERVAL);
        let due = due.map(|(_, Sum { left_out, line, .. })| LeftOut { times: left_out, like: line });
        due.filter(|sum| sum.times > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the log runs in real time")]
    fn a_kind_of_line_is_written_once_a_minute_and_the_rest_is_counted() {
        let (mut sums, now) = (Sums::default(), Instant::now());
        assert!(sums.admit("refused", "12:00:00 one\n", now));
        assert!(sums.admit("failed", "12:00:00 one\n", now));
        assert_eq!((0..1000).filter(|n| sums.admit("refused", &format!("12:{n} one\n"), now)).count(), 0);
        assert_eq!(sums.take_due(now + INTERVAL / 2), []);
        let left_out = LeftOut { times: 1000, like: "12:00:00 one".to_owned() };
        assert_eq!(sums.take_due(now + INTERVAL), [left_out]);
        assert!(sums.admit("refused", "12:01:00 one\n", now + INTERVAL), "a new minute");
        assert_eq!(sums.take_due(now + 2 * INTERVAL), [], "a single line is no sum");
    }
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the log runs in real time")]
    fn of_a_kind_a_few_different_lines_are_written() {
        let (mut sums, now) = (Sums::default(), Instant::now());
        let lines = (0..100).map(|n| format!("{{\"timestamp\":\"12:{n}\",\"status\":{}}}", n % 50));
        let written: Vec<String> = lines.filter(|line| sums.admit("refused", line, now)).collect();
        assert_eq!(written.len(), MAX_DIFFERENT, "{written:?}");
        assert_eq!(sums.take_due(now + INTERVAL)[0].times, 92);
    }
}
