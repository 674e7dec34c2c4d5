//! The log of lookups: a row for each lookup that was answered (design, P14).
//!
//! The handler builds a row and puts it into a bounded queue. A thread writes the queue to the file. No request
//! waits for the disk: a row that does not fit is dropped and counted.

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

/// A row of the log, built while the lookup runs.
///
/// It is one JSON object: `ts`, `account`, `ip`, `algorithm`; in a full log the addresses `found` and
/// `not_found`; then the numbers of `addresses` sent and of `matches`.
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

/// The approximate size of a row without its addresses.
const ROW_BYTES: usize = 256;

/// The size of an address in a row: 43 characters, quotes and a comma.
const ADDRESS_BYTES: usize = 46;

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
        let room = if level == LookupLog::Full { addresses * ADDRESS_BYTES } else { 0 };
        row.text.reserve(ROW_BYTES + room);
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

    /// Adds an address that was looked up, in the form in which it was sent. Pass only addresses in the form of
    /// the algorithm: anything else could be an address in the clear.
    pub fn add(&mut self, address: &str, is_found: bool) {
        self.matches += usize::from(is_found);
        if self.level != LookupLog::Full {
            return;
        }
        if self.not_found.capacity() == 0 && !is_found {
            self.not_found.reserve(self.addresses * ADDRESS_BYTES);
        }
        let list = if is_found { &mut self.text } else { &mut self.not_found };
        list.push(b'"');
        match self.key {
            // No escaping needed: these are characters of URL-safe base64.
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

/// The hash that the log has for an address sent in the clear, `<address> <medium>`.
fn hash_of_clear(key: &Key32, text: &str) -> String {
    url_text(&key.mac(&[b"looked up in the clear", text.as_bytes()]))
}

/// The hash that the log has for an address sent in the clear. `key` is the server's own key, the one of
/// sessions.
pub fn clear_hash(key: &Key32, address: &Address) -> String {
    hash_of_clear(key, &format!("{} {}", address.as_str(), address.medium().as_str()))
}

/// How many bytes may be queued. This also bounds the number of rows.
const MAX_QUEUED_BYTES: usize = 16 << 20;

/// How large the file of a day may become, so that lookups cannot fill the disk. Further rows are counted as
/// lost.
const MAX_DAY_BYTES: u64 = 1 << 30;

/// How many queued bytes wake the thread before its tick.
const WAKE_BYTES: usize = 256 << 10;

/// The queue of rows to write.
#[derive(Default)]
pub struct Queue {
    queued: Mutex<Batch>,
    wake: Condvar,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The days of the rows: where the rows of a day end in `bytes`, and how many there are.
    days: Vec<(Day, usize, u64)>,
    lost: u64,
    is_last: bool,
}

impl Batch {
    fn push(&mut self, row: &[u8], day: Day) {
        if self.bytes.len() + row.len() > MAX_QUEUED_BYTES {
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
        // Free the memory of a burst of requests.
        self.bytes.shrink_to(4 * WAKE_BYTES);
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
        let mut queued = self.lock();
        let before = queued.bytes.len();
        queued.push(&row, day);
        let is_enough = before < WAKE_BYTES && queued.bytes.len() >= WAKE_BYTES;
        drop(queued);
        if is_enough {
            self.wake.notify_one();
        }
    }

    /// Ends the thread after it has written the queued rows.
    pub(super) fn close(&self) {
        self.lock().is_last = true;
        self.wake.notify_one();
    }

    /// Writes the queued rows at least every `tick`, until the queue is closed. Calls `lost` with the number of
    /// lost rows.
    pub(super) fn write(
        &self,
        folder: &Path,
        privacy: &Privacy,
        tick: Duration,
        now: impl Fn() -> Millis,
        lost: impl Fn(u64),
    ) {
        let mut batch = Batch::default();
        loop {
            let queued = self.lock();
            let may_wait = |batch: &mut Batch| batch.bytes.len() < WAKE_BYTES && !batch.is_last;
            let woken = self.wake.wait_timeout_while(queued, tick, may_wait);
            let (mut queued, _) = woken.unwrap_or_else(PoisonError::into_inner);
            let is_last = queued.is_last;
            std::mem::swap(&mut *queued, &mut batch);
            drop(queued);
            lost(batch.lost + write_batch(&batch, folder, privacy, now()));
            batch.clear();
            if is_last {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends the rows of each day to its file. Returns how many were lost.
fn write_batch(batch: &Batch, folder: &Path, privacy: &Privacy, now: Millis) -> u64 {
    let (mut start, mut lost) = (0, 0);
    for &(day, end, rows) in &batch.days {
        let bytes = &batch.bytes[start..end];
        start = end;
        // Retention has unlinked the file of that day. A new one would stay until the next round.
        if now >= LogKind::Lookup.goes(day, privacy) {
            continue;
        }
        let file = LogKind::Lookup.file(folder, day);
        if files::length(&file) + bytes.len() as u64 > MAX_DAY_BYTES {
            lost += rows;
            continue;
        }
        if let Err(error) = files::append(&file, |file| file.write_all(bytes)) {
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
    fn rows_that_do_not_fit_are_counted_and_the_caller_does_not_wait() {
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
        let queued = queue.lock();
        let rows = queued.days[0].2;
        assert!(queued.bytes.len() <= MAX_QUEUED_BYTES && rows > 30);
        assert_eq!(queued.lost, 100 - rows);
    }
}
