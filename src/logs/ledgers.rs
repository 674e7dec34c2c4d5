//! The access log and the connection log: adds up the counters by day, and appends the rows that have changed to the
//! file of their day, at most once a minute.
//!
//! A row is appended with its totals and replaces the earlier one, so a write that failed halfway is repeated as a
//! whole. Replaced rows are removed once they outnumber the others, and when the day is over.
//!
//! After a start, it reads the file of a day before it adds to it. A crash loses at most the last minute; a restart
//! loses nothing.

use std::{
    collections::BTreeMap,
    fs::File,
    hash::RandomState,
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    files::{self, LogKind},
    read::for_each_whole_row,
    tally::{CountedRow, Row, Tally},
};
use crate::{
    config::Privacy,
    domain::{day::Day, time::Millis},
};

/// The time between two writes of the files.
pub(super) const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// How many rows a day has at most. Further requests share one more row.
const MAX_ROWS_PER_DAY: usize = 100_000;

/// How many lines the file of today may have for each row, on average: the row and those that it replaced.
const MAX_LINES_PER_ROW: usize = 2;

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
    /// How many lines its file has.
    lines: usize,
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
                Ok(page) => page.tally.add(&row),
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
            let page = self.load(day)?;
            self.days.insert(day, page);
        }
        self.days.get_mut(&day).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn load(&self, day: Day) -> io::Result<Page<N>> {
        let mut page = Page { tally: Tally::new(self.hasher.clone(), MAX_ROWS_PER_DAY), lines: 0 };
        let Some(file) = files::open(&self.kind.file(&self.folder, day))? else { return Ok(page) };
        for_each_whole_row(file, |row| {
            page.lines += 1;
            match serde_json::from_str::<CountedRow>(row) {
                Ok(row) => page.tally.restore(Row::of_counted(row, self.columns)),
                Err(_) => {
                    tracing::warn!(log = self.kind.as_str(), "a row of a log cannot be read and is skipped")
                }
            }
            Ok(())
        })?;
        Ok(page)
    }

    /// Writes the changed rows, and drops the days that have reached their age. Returns how many rows were
    /// lost.
    pub fn write(&mut self, privacy: &Privacy, now: Millis) -> u64 {
        self.days.retain(|day, _| now < self.kind.goes(*day, privacy));
        let (kind, columns, today) = (self.kind, self.columns, Day::of(now));
        for (day, page) in &mut self.days {
            let file = kind.file(&self.folder, *day);
            let max_lines = if *day == today { MAX_LINES_PER_ROW } else { 1 };
            let written = page.append_changes(&file, kind, columns).and_then(|()| {
                let is_too_long = page.lines > max_lines * page.tally.rows().len();
                if is_too_long { page.compact(&file, kind, columns) } else { Ok(()) }
            });
            if let Err(error) = written {
                tracing::error!(log = kind.as_str(), %error, "a log cannot be written");
            }
        }
        let past = self.days.extract_if(.., |day, _| *day != today);
        past.map(|(_, page)| page.tally.changed().count() as u64).sum()
    }
}

impl<const N: usize> Page<N> {
    fn append_changes(&mut self, file: &Path, kind: LogKind, columns: [&str; N]) -> io::Result<()> {
        let changed = self.tally.changed().count();
        if changed == 0 {
            return Ok(());
        }
        let file = files::append(file, |file| write_rows(self.tally.changed(), kind, columns, file))?;
        // Mark them as stored even if the fsync fails. Otherwise each minute would append them again and fill the disk.
        self.tally.set_stored();
        self.lines += changed;
        file.sync_data()
    }

    /// Removes the replaced rows from the file.
    fn compact(&mut self, file: &Path, kind: LogKind, columns: [&str; N]) -> io::Result<()> {
        files::replace(file, |file| write_rows(self.tally.rows(), kind, columns, file))?;
        self.lines = self.tally.rows().len();
        Ok(())
    }
}

fn write_rows<'a, const N: usize>(
    rows: impl Iterator<Item = &'a Row<N>>,
    kind: LogKind,
    columns: [&str; N],
    file: &mut BufWriter<File>,
) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut *file, &row.to_counted(columns, kind == LogKind::Access))?;
        file.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        os::unix::fs::MetadataExt,
    };

    use tempfile::TempDir;

    use super::*;

    const TODAY: Day = Day(20_000);
    const AGENT: &str = "Element/1.11.86 (X11; Linux x86_64)";

    fn ledger(folder: &TempDir) -> Ledger<2> {
        let folder = folder.path().to_owned();
        Ledger::new(LogKind::Access, ["lookup", "page"], folder, RandomState::new())
    }

    /// Counts one request of each of these callers.
    fn count(ledger: &mut Ledger<2>, callers: impl IntoIterator<Item = u32>) {
        let mut tally = Tally::new(ledger.hasher.clone(), usize::MAX);
        callers.into_iter().for_each(|caller| tally.count(TODAY, caller.to_be_bytes().into(), AGENT, 1));
        assert_eq!(ledger.add(tally.take()), 0);
    }

    fn write(ledger: &mut Ledger<2>, day: Day) {
        assert_eq!(ledger.write(&Privacy::default(), day.start()), 0, "no row is lost");
    }

    fn file(folder: &TempDir) -> PathBuf {
        LogKind::Access.file(folder.path(), TODAY)
    }

    /// The requests for pages of each caller, as a reader of the log sees them.
    fn pages(folder: &TempDir) -> BTreeMap<String, u64> {
        let mut pages = BTreeMap::new();
        crate::logs::for_each_row(folder.path(), LogKind::Access, TODAY, |row| {
            let row: CountedRow = serde_json::from_str(row)?;
            let before = pages.insert(row.ip.expect("an address").to_string(), row.counts["page"]);
            assert_eq!(before, None, "each caller is there once");
            Ok(())
        })
        .expect("readable");
        pages
    }

    #[test]
    fn a_write_costs_what_has_changed_and_not_what_is_there() {
        const ROW: u64 = 100;
        let folder = TempDir::new().expect("a directory");
        let mut ledger = ledger(&folder);
        let mut cost = |callers: u32| {
            let before = fs::metadata(file(&folder)).map(|data| (data.ino(), data.len())).unwrap_or_default();
            count(&mut ledger, 0..callers);
            write(&mut ledger, TODAY);
            let after = fs::metadata(file(&folder)).expect("a file");
            // Another file is one that was compacted, after the rows had been appended to the old one.
            let is_same = before.0 == 0 || after.ino() == before.0;
            if is_same { after.len() - before.1 } else { after.len() + u64::from(callers) * ROW }
        };
        let all = cost(100_000);
        assert!(all > 5_000_000, "{all}");
        assert!((1..ROW).contains(&cost(1)));
        assert!((ROW..1000 * ROW).contains(&cost(1000)));
        assert_eq!(cost(0), 0);
        let changes = 30 * 5000;
        let total: u64 = (0..30).map(|_| cost(5000)).sum();
        assert!(total <= 2 * changes * ROW, "{total}");
        assert!(total > all, "it was compacted meanwhile");
        assert!(fs::metadata(file(&folder)).expect("a file").len() <= 2 * all);
        assert_eq!(pages(&folder).len(), 100_000);
    }

    #[test]
    fn a_day_that_is_over_has_one_row_for_each_caller() {
        let folder = TempDir::new().expect("a directory");
        let mut ledger = ledger(&folder);
        let rows = || fs::read_to_string(file(&folder)).expect("a file").lines().count();
        count(&mut ledger, 0..3);
        write(&mut ledger, TODAY);
        count(&mut ledger, 0..2);
        write(&mut ledger, TODAY);
        assert_eq!(rows(), 5);
        write(&mut ledger, Day(TODAY.0 + 1));
        assert_eq!(rows(), 3);
        let expected = [("0.0.0.0", 2), ("0.0.0.1", 2), ("0.0.0.2", 1)];
        assert_eq!(pages(&folder), expected.map(|(ip, count)| (ip.to_owned(), count)).into());
    }

    #[test]
    fn the_file_of_an_earlier_version_is_continued_whatever_a_crash_has_cut() {
        // Earlier versions wrote each row once. The last row was cut within a character.
        let earlier =
            br#"{"day":"2024-10-04","ip":"0.0.0.7","agent":"Element/1.11.86 (X11; Linux x86_64)","page":40}
{"day":"2024-10-04","ip":"2001:db8::7","agent":"(others)","lookup":3,"page":2}
{"day":"2024-10-04","ip":"0.0.0.8","agent":"caf"#;
        let folder = TempDir::new().expect("a directory");
        fs::write(file(&folder), [&earlier[..], b"\xc3"].concat()).expect("written");
        let expected =
            |seven: u64| BTreeMap::from([("0.0.0.7".to_owned(), seven), ("2001:db8::7".to_owned(), 2)]);
        assert_eq!(pages(&folder), expected(40));
        for seven in [41, 42] {
            // Each time after a restart, and a crash that cut the last row.
            let mut ledger = ledger(&folder);
            count(&mut ledger, [7]);
            write(&mut ledger, TODAY);
            assert_eq!(pages(&folder), expected(seven));
            let mut file = OpenOptions::new().append(true).open(file(&folder)).expect("a file");
            file.write_all(br#"{"day":"2024-10-04","ip":"0.0.0.7","agent":"Elem"#).expect("written");
        }
        assert_eq!(pages(&folder), expected(42));
    }

    #[test]
    fn a_write_that_failed_is_repeated() {
        let folder = TempDir::new().expect("a directory");
        let mut ledger = ledger(&folder);
        count(&mut ledger, 0..2);
        write(&mut ledger, TODAY);
        let (path, aside) = (file(&folder), folder.path().join("aside"));
        fs::rename(&path, &aside).expect("renamed");
        fs::create_dir(&path).expect("a directory, which nothing can be appended to");
        count(&mut ledger, [1]);
        write(&mut ledger, TODAY);
        fs::remove_dir(&path).expect("removed");
        fs::rename(&aside, &path).expect("renamed");
        write(&mut ledger, TODAY);
        assert_eq!(pages(&folder), BTreeMap::from([("0.0.0.0".to_owned(), 1), ("0.0.0.1".to_owned(), 2)]));
    }
}
