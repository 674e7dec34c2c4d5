//! The access log and the connection log: adds up the counters by day, and writes each changed day as a whole
//! file, at most once a minute.
//!
//! After a start, it reads the file of a day before it adds to it. A crash loses at most the last minute; a restart
//! loses nothing.

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
    domain::{day::Day, file_error::at, time::Millis},
};

/// The time between two writes of the files.
pub(super) const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// How many rows a day has at most. Further requests share one more row.
const MAX_ROWS_PER_DAY: usize = 100_000;

/// One of the two logs.
pub(super) struct Ledger<const N: usize> {
    kind: LogKind,
    columns: [&'static str; N],
    folder: PathBuf,
    hasher: RandomState,
    days: BTreeMap<Day, Page<N>>,
}

/// The counts of a day.
struct Page<const N: usize> {
    tally: Tally<N>,
    is_changed: bool,
}

impl<const N: usize> Ledger<N> {
    pub fn new(kind: LogKind, columns: [&'static str; N], folder: PathBuf, hasher: RandomState) -> Self {
        Self { kind, columns, folder, hasher, days: BTreeMap::new() }
    }

    /// Adds rows. Returns how many were lost because the file of their day could not be read.
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
                        tracing::error!(log = self.kind.as_str(), %error, "the file of a log cannot be read, so rows of that day are lost");
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
        let mut tally = Tally::new(self.hasher.clone(), MAX_ROWS_PER_DAY);
        let path = self.kind.file(&self.folder, day);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(tally),
            file => file.map_err(at(&path))?,
        };
        for line in BufReader::new(file).lines() {
            match serde_json::from_str::<CountedRow>(&line?) {
                Ok(row) => tally.add(&Row::of_counted(row, self.columns)),
                Err(_) => {
                    tracing::warn!(log = self.kind.as_str(), "a row of a log cannot be read and is skipped")
                }
            }
        }
        Ok(tally)
    }

    /// Writes the changed days, and drops the days that have reached their age. Returns how many rows were
    /// lost.
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
        let past = self.days.extract_if(.., |day, _| *day != Day::of(now));
        past.filter(|(_, page)| page.is_changed).map(|(_, page)| page.tally.rows().count() as u64).sum()
    }
}
