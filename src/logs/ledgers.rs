//! The access and the connection log: what the counters have counted, kept by day and written as
//! whole files, at most once a minute.
//!
//! The files are read again at the start, so that a restart loses at most the last minute, and
//! only if it was a crash.

use std::{
    collections::BTreeMap,
    fs::File,
    hash::RandomState,
    io::{self, BufRead, BufReader, ErrorKind, Write},
    path::PathBuf,
    time::Duration,
};

use super::{
    files::{self, LogKind},
    tally::{CountedRow, Row, Tally},
};
use crate::{
    config::Privacy,
    domain::{day::Day, time::Millis},
};

/// At most so often the files are written.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// How many rows a day has at most, beside the one for all the others.
const MOST: usize = 100_000;

/// One of the two logs.
pub(super) struct Ledger<const N: usize> {
    kind: LogKind,
    columns: [&'static str; N],
    folder: PathBuf,
    hasher: RandomState,
    days: BTreeMap<Day, Page<N>>,
}

/// A day that is in memory.
struct Page<const N: usize> {
    tally: Tally<N>,
    is_changed: bool,
}

impl<const N: usize> Ledger<N> {
    pub fn new(kind: LogKind, columns: [&'static str; N], folder: PathBuf, hasher: RandomState) -> Self {
        Self { kind, columns, folder, hasher, days: BTreeMap::new() }
    }

    /// Adds rows; gives how many were lost because their day could not be read.
    pub fn add(&mut self, rows: impl Iterator<Item = Row<N>>) -> u64 {
        let mut lost = 0;
        for row in rows {
            match self.page(row.day) {
                Ok(page) => {
                    page.tally.add(&row);
                    page.is_changed = true;
                }
                Err(error) => {
                    if lost == 0 {
                        tracing::error!(log = self.kind.as_str(), %error, "a log cannot be read, nor added to");
                    }
                    lost += 1;
                }
            }
        }
        lost
    }

    fn page(&mut self, day: Day) -> io::Result<&mut Page<N>> {
        if !self.days.contains_key(&day) {
            let tally = self.load(day)?;
            self.days.insert(day, Page { tally, is_changed: false });
        }
        self.days.get_mut(&day).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn load(&self, day: Day) -> io::Result<Tally<N>> {
        let mut tally = Tally::new(self.hasher.clone(), MOST);
        let file = match File::open(self.kind.file(&self.folder, day)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(tally),
            file => file?,
        };
        for line in BufReader::new(file).lines() {
            match serde_json::from_str::<CountedRow>(&line?) {
                Ok(row) => tally.add(&Row::of_counted(row, self.columns)),
                Err(_) => {
                    tracing::warn!(log = self.kind.as_str(), "a row of a log cannot be read and is left out")
                }
            }
        }
        Ok(tally)
    }

    /// Writes what has changed, and forgets what is over; gives how many rows were lost.
    pub fn write(&mut self, privacy: &Privacy, now: Millis) -> u64 {
        self.days.retain(|day, _| now < self.kind.goes(*day, privacy));
        for (day, page) in self.days.iter_mut().filter(|(_, page)| page.is_changed) {
            let written = files::replace(&self.kind.file(&self.folder, *day), |file| {
                for row in page.tally.rows() {
                    let row = row.to_counted(self.columns, self.kind == LogKind::Access);
                    serde_json::to_writer(&mut *file, &row)?;
                    file.write_all(b"\n")?;
                }
                Ok(())
            });
            match written {
                Ok(()) => page.is_changed = false,
                Err(error) => tracing::error!(log = self.kind.as_str(), %error, "a log cannot be written"),
            }
        }
        let over = self.days.extract_if(.., |day, _| *day != Day::of(now));
        over.filter(|(_, page)| page.is_changed).map(|(_, page)| page.tally.rows().count() as u64).sum()
    }
}
