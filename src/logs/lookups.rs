//! The log of lookups: a row for each request that was answered (design, P14).
//!
//! The handler builds a row beside its answer and leaves it in a bounded queue; a thread writes
//! what has gathered there. Nobody waits for the disk: what does not fit is lost, and counted.

use std::{
    io::Write,
    net::IpAddr,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::files::{self, LogKind};
use crate::{
    config::{LookupLog, Privacy},
    domain::{
        day::Day,
        ids::UserId,
        lookup::Algorithm,
        secret::{Key32, url_text},
        threepid::Address,
        time::Millis,
    },
};

/// A row of the log, being built while the lookup runs.
///
/// Its text is one JSON object: `ts`, `account`, `ip`, `algorithm`, in a full log the addresses
/// that were `found` and those `not_found`, then how many `addresses` were sent and how many `matches`
/// there were.
pub struct LookupRow<'a> {
    level: LookupLog,
    /// The key under which addresses in the clear are hashed.
    key: Option<&'a Key32>,
    addresses: usize,
    matches: usize,
    ts: Millis,
    text: Vec<u8>,
    not_found: Vec<u8>,
}

/// About how long a row is without its addresses.
const ROW: usize = 256;

/// How long an address is in a row: 43 characters, quotes and a comma.
const ADDRESS: usize = 46;

impl<'a> LookupRow<'a> {
    pub(super) fn new(
        level: LookupLog,
        key: &'a Key32,
        account: &UserId,
        ip: IpAddr,
        algorithm: Algorithm,
        addresses: usize,
        ts: Millis,
    ) -> Self {
        let key = (algorithm == Algorithm::None).then_some(key);
        let mut row = Self { level, key, addresses, matches: 0, ts, text: Vec::new(), not_found: Vec::new() };
        if level == LookupLog::Off {
            return row;
        }
        let room = if level == LookupLog::Full { addresses * ADDRESS } else { 0 };
        row.text.reserve(ROW + room);
        // Writing to memory does not fail.
        let _ = write!(row.text, "{{\"ts\":{},\"account\":", ts.0);
        let _ = serde_json::to_writer(&mut row.text, account.as_str());
        let _ =
            write!(row.text, ",\"ip\":\"{}\",\"algorithm\":\"{}\"", ip.to_canonical(), algorithm.as_str());
        if level == LookupLog::Full {
            row.text.extend(b",\"found\":[");
        }
        row
    }

    /// Adds an address in the form in which lookups find something by it, as it was sent. What has
    /// not that form may be anything, also an address in the clear, and does not belong here.
    pub fn add(&mut self, address: &str, is_found: bool) {
        self.matches += usize::from(is_found);
        if self.level != LookupLog::Full {
            return;
        }
        if self.not_found.capacity() == 0 && !is_found {
            self.not_found.reserve(self.addresses * ADDRESS);
        }
        let list = if is_found { &mut self.text } else { &mut self.not_found };
        list.push(b'"');
        match self.key {
            // Nothing to escape: the characters of URL-safe base64.
            None => list.extend(address.as_bytes()),
            Some(key) => list.extend(hash_of_clear(key, address).as_bytes()),
        }
        list.extend(b"\",");
    }

    fn finish(mut self) -> Vec<u8> {
        if self.level == LookupLog::Full {
            if self.text.last() == Some(&b',') {
                self.text.pop();
            }
            self.not_found.pop();
            self.text.extend(b"],\"not_found\":[");
            self.text.extend(&self.not_found);
            self.text.push(b']');
        }
        let (addresses, matches) = (self.addresses, self.matches);
        let _ = writeln!(self.text, ",\"addresses\":{addresses},\"matches\":{matches}}}");
        self.text
    }
}

/// What stands in the log for an address that was sent in the clear, `<address> <medium>`.
fn hash_of_clear(key: &Key32, text: &str) -> String {
    url_text(&key.mac(&[b"looked up in the clear", text.as_bytes()]))
}

/// What stands in the log for an address that was sent in the clear. `key` is the server's own key,
/// the one of sessions.
pub fn clear_hash(key: &Key32, address: &Address) -> String {
    hash_of_clear(key, &format!("{} {}", address.as_str(), address.medium().as_str()))
}

/// How many bytes may wait for the disk. A row has some at least, so this bounds their number too.
const MOST: usize = 16 << 20;

/// A day has no more than that: nobody who looks up fills the disk. What comes on top is counted as lost.
const MOST_OF_A_DAY: u64 = 1 << 30;

/// From so many bytes on the thread is woken.
const PLENTY: usize = 256 << 10;

/// The rows that wait for the disk.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Batch>,
    bell: Condvar,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The days of the rows: up to which byte a day goes, and how many rows it has.
    days: Vec<(Day, usize, u64)>,
    lost: u64,
    is_last: bool,
}

impl Batch {
    fn push(&mut self, row: &[u8], day: Day) {
        if self.bytes.len() + row.len() > MOST {
            self.lost += 1;
            return;
        }
        self.bytes.extend(row);
        match self.days.last_mut() {
            Some((of, end, rows)) if *of == day => (*end, *rows) = (self.bytes.len(), *rows + 1),
            _ => self.days.push((day, self.bytes.len(), 1)),
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        // What a rush of requests needed is not kept for ever.
        self.bytes.shrink_to(4 * PLENTY);
        self.days.clear();
        self.lost = 0;
    }
}

impl Queue {
    pub(super) fn push(&self, row: LookupRow<'_>) {
        if row.level == LookupLog::Off {
            return;
        }
        let day = Day::of(row.ts);
        let row = row.finish();
        let mut waiting = self.lock();
        let before = waiting.bytes.len();
        waiting.push(&row, day);
        let is_plenty = before < PLENTY && waiting.bytes.len() >= PLENTY;
        drop(waiting);
        if is_plenty {
            self.bell.notify_one();
        }
    }

    /// Lets the thread end once it has written what is there.
    pub(super) fn close(&self) {
        self.lock().is_last = true;
        self.bell.notify_one();
    }

    /// Writes what gathers, until the queue is closed. `lost` hears how many rows came to nothing.
    pub(super) fn write(
        &self,
        folder: &Path,
        privacy: &Privacy,
        patience: Duration,
        now: impl Fn() -> Millis,
        lost: impl Fn(u64),
    ) {
        let mut batch = Batch::default();
        loop {
            let waiting = self.lock();
            let is_little = |batch: &mut Batch| batch.bytes.len() < PLENTY && !batch.is_last;
            let waited = self.bell.wait_timeout_while(waiting, patience, is_little);
            let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let is_last = waiting.is_last;
            std::mem::swap(&mut *waiting, &mut batch);
            drop(waiting);
            lost(batch.lost + write_batch(&batch, folder, privacy, now()));
            batch.clear();
            if is_last {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the rows of each day into its file; gives how many were lost.
fn write_batch(batch: &Batch, folder: &Path, privacy: &Privacy, now: Millis) -> u64 {
    let (mut start, mut lost) = (0, 0);
    for &(day, end, rows) in &batch.days {
        let bytes = &batch.bytes[start..end];
        start = end;
        // Nobody would unlink it again for a while.
        if now >= LogKind::Lookup.goes(day, privacy) {
            continue;
        }
        let file = LogKind::Lookup.file(folder, day);
        if files::length(&file) + bytes.len() as u64 > MOST_OF_A_DAY {
            lost += rows;
            continue;
        }
        if let Err(error) = files::append(&file, bytes) {
            tracing::error!(%error, "the log of lookups cannot be written");
            lost += rows;
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let queue = Queue::default();
        let key = Key32::new([7; 32]);
        let account = UserId::parse("@alice:example.org").expect("a user ID");
        let push = || {
            let mut row = LookupRow::new(
                LookupLog::Full,
                &key,
                &account,
                IpAddr::from([203, 0, 113, 7]),
                Algorithm::Sha256,
                10_000,
                Millis(1_800_000_000_000),
            );
            for _ in 0..10_000 {
                row.add(&"x".repeat(43), false);
            }
            queue.push(row);
        };
        (0..100).for_each(|_| push());
        let waiting = queue.lock();
        let rows = waiting.days[0].2;
        assert!(waiting.bytes.len() <= MOST && rows > 30);
        assert_eq!(waiting.lost, 100 - rows);
    }
}
