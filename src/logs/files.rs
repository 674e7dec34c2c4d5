//! The files of the logs: their names, how they are written, and when they are deleted.
//!
//! One file holds one UTC day of one log, so deleting old rows is unlinking a file. This file knows nothing
//! about the format of a row.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    config::Privacy,
    domain::{
        day::Day,
        file_error::with_path,
        retention::LOG_MARGIN,
        time::{DAY, Millis},
    },
};

/// The suffix of a file that is being written.
const UNFINISHED_SUFFIX: &str = ".new";

/// The three logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// Which account looked up which addresses.
    Lookup,
    /// Which IP address called with which user agent.
    Access,
    /// How often an IP address called.
    Connection,
}

impl LogKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lookup, Self::Access, Self::Connection];

    /// Its name, and the prefix of its files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::Access => "access",
            Self::Connection => "connection",
        }
    }

    /// How many days a row is kept at most.
    pub fn days(self, privacy: &Privacy) -> u32 {
        let days = match self {
            Self::Lookup => privacy.lookup_log_days,
            Self::Access => privacy.access_log_days,
            Self::Connection => privacy.connection_log_days,
        };
        days.get()
    }

    /// When the file of a day is deleted: before its first row exceeds the period.
    pub fn goes(self, day: Day, privacy: &Privacy) -> Millis {
        day.start().after((DAY * self.days(privacy)).saturating_sub(LOG_MARGIN))
    }

    /// The path of the file of a day.
    pub(super) fn file(self, folder: &Path, day: Day) -> PathBuf {
        folder.join(format!("{}-{day}.jsonl", self.as_str()))
    }
}

/// The folder of the logs.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("logs")
}

/// Whether there are logs in a data directory.
pub fn exist(data_dir: &Path) -> bool {
    list(&folder(data_dir)).is_ok_and(|files| !files.is_empty())
}

/// Creates the folder (mode 0700), and removes files that a crash left unfinished.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        DirBuilder::new().mode(0o700).create(folder).map_err(with_path(folder))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(with_path(folder))?;
    for unfinished in list(folder)?.iter().filter(|file| file.is_unfinished) {
        unfinished.unlink()?;
    }
    Ok(())
}

/// A file of a log.
pub(super) struct LogFile {
    pub kind: LogKind,
    pub day: Day,
    pub path: PathBuf,
    is_unfinished: bool,
}

impl LogFile {
    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let finished = name.strip_suffix(UNFINISHED_SUFFIX);
        let (kind, day) = finished.unwrap_or(name).strip_suffix(".jsonl")?.split_once('-')?;
        let kind = LogKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        Some(Self { kind, day: Day::parse(day)?, is_unfinished: finished.is_some(), path })
    }

    fn unlink(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(with_path(&self.path)(error)),
            _ => Ok(()),
        }
    }
}

fn list(folder: &Path) -> io::Result<Vec<LogFile>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(with_path(folder))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        files.extend(LogFile::parse(entry?.path()));
    }
    Ok(files)
}

/// The finished files of one log, the oldest first.
pub(super) fn of_kind(folder: &Path, kind: LogKind) -> io::Result<Vec<LogFile>> {
    let mut files = list(folder)?;
    files.retain(|file| file.kind == kind && !file.is_unfinished);
    files.sort_unstable_by_key(|file| file.day);
    Ok(files)
}

/// Opens a file to read it. `None` if there is none.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path)(error)),
    }
}

/// Appends whole rows to a file, which is created with mode 0600. The file is not kept open: retention may
/// unlink it, and rows would then be written to no file. It is not fsynced.
pub(super) fn append(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = opened.map_err(with_path(path))?;
    let mut last = [b'\n'];
    let length = file.metadata()?.len();
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    // A full disk or a crash may have cut the last row. Start a new line, so that only that row is lost.
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)
}

/// The size of a file in bytes. 0 if there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}

/// Replaces a file atomically: after a crash, it is either the old or the new one.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED_SUFFIX);
    let unfinished = PathBuf::from(unfinished);
    let written = || {
        let created =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        let mut file = BufWriter::new(created.map_err(with_path(&unfinished))?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&unfinished, path)
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })
}

/// Unlinks the files that have reached their age, and returns how many. Also unlinks unfinished ones, and files
/// of a day after tomorrow: a wrong clock wrote those, so their age is unknown.
///
/// Do not call this while the clock is in doubt. It waits for the disk.
///
/// # Errors
/// The first file that could not be unlinked. The others are unlinked.
pub fn unlink_expired(folder: &Path, now: Millis, privacy: &Privacy) -> io::Result<usize> {
    let (mut unlinked, mut outcome) = (0, Ok(()));
    for file in list(folder)? {
        if now >= file.kind.goes(file.day, privacy) || file.day.0 > Day::of(now).0 + 1 {
            match file.unlink() {
                Ok(()) => unlinked += 1,
                failed => outcome = outcome.and(failed),
            }
        }
    }
    outcome.map(|()| unlinked)
}

/// The size of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The log.
    pub kind: LogKind,
    /// The number of rows, of all days. A row of today counts each time that it was written, see `ledgers`.
    pub rows: u64,
    /// The number of bytes, of all days.
    pub bytes: u64,
    /// Its oldest day, and when that is deleted. `None` if the log is empty.
    pub oldest: Option<(Day, Millis)>,
}

/// Measures each log. Reads every file once, in pieces, and waits for the disk.
///
/// # Errors
/// If a file cannot be read.
pub fn held(folder: &Path, privacy: &Privacy) -> io::Result<[Held; 3]> {
    let mut all = LogKind::ALL.map(|kind| Held { kind, rows: 0, bytes: 0, oldest: None });
    for held in &mut all {
        for file in of_kind(folder, held.kind)? {
            let Some(content) = open(&file.path)? else { continue };
            let (rows, bytes) = size(content)?;
            held.rows += rows;
            held.bytes += bytes;
            held.oldest = held.oldest.or(Some((file.day, held.kind.goes(file.day, privacy))));
        }
    }
    Ok(all)
}

fn size(mut content: File) -> io::Result<(u64, u64)> {
    let (mut rows, mut bytes, mut piece) = (0, 0, vec![0; 64 * 1024]);
    loop {
        let length = content.read(&mut piece)?;
        if length == 0 {
            return Ok((rows, bytes));
        }
        bytes += length as u64;
        rows += piece[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}
