//! The backups in `backup.directory`: their names, which of them there are, and the removal of old ones.
//!
//! Only a file whose name and end are those of a backup is ever removed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::trailer::Trailer;
use crate::{
    domain::time::{DAY, Millis, as_millis},
    store::{StoreError, migrations::copies},
};

/// How long a file stays that a crash left half written. A backup that is being written is younger.
const KEEP_PARTIAL: Duration = DAY;

/// A backup in the directory.
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// When it was made.
    pub made: Millis,
}

/// The file for a backup that is made now.
pub fn path_in(directory: &Path, now: Millis) -> PathBuf {
    let ((year, month, day), (hour, minute)) = (now.date(), now.time_of_day());
    let second = now.0 / 1000 % 60;
    directory.join(format!("bindery-{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z.backup"))
}

fn has_name_of_backup(name: &str) -> bool {
    let time = name.strip_prefix("bindery-").and_then(|rest| rest.strip_suffix("Z.backup"));
    let Some((day, time)) = time.and_then(|time| time.split_once('T')) else { return false };
    let is_number = |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number(day, 8) && is_number(time, 6)
}

/// The files in `directory` whose name is accepted.
fn files(directory: &Path, is_accepted: impl Fn(&str) -> bool) -> Vec<Kept> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let modified = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let is_meant = metadata.is_file() && entry.file_name().to_str().is_some_and(&is_accepted);
        is_meant.then(|| Kept { path: entry.path(), made: Millis(as_millis(modified)) })
    });
    files.collect()
}

/// The backups in `directory`, the oldest first. A backup from a wrong clock has the time of its file.
pub fn list(directory: &Path, now: Millis) -> Vec<Kept> {
    let mut backups = files(directory, has_name_of_backup);
    backups.retain_mut(|backup| {
        let trailer = fs::File::open(&backup.path).and_then(|file| Trailer::read(&file));
        let Ok(Some(Trailer { made, .. })) = trailer else { return false };
        if !made.is_ahead_of(now) {
            backup.made = made;
        }
        true
    });
    backups.sort_by_key(|backup| backup.made);
    backups
}

/// Removes the backups in `directory` that are older than `kept`, and what crashes left half written.
///
/// # Errors
/// The first file that could not be removed. The others are removed.
pub fn remove_old(directory: &Path, kept: Duration, now: Millis) -> Result<(), StoreError> {
    let is_partial = |name: &str| name.strip_suffix(".new").is_some_and(has_name_of_backup);
    let aged = |files: Vec<Kept>| files.into_iter().map(|file| (file.path, file.made)).collect();
    let backups = copies::remove_aged(aged(list(directory, now)), kept, now);
    backups.and(copies::remove_aged(aged(files(directory, is_partial)), KEEP_PARTIAL, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_is_that_of_a_backup() {
        let path = path_in(Path::new("/backups"), Millis(1_800_000_000_000 + 59_999));
        assert_eq!(path, Path::new("/backups/bindery-20270115T080059Z.backup"));
        for (name, expected) in [
            ("bindery-20270115T080059Z.backup", true),
            ("bindery-20270115T080059Z.backup.new", false),
            ("bindery-20270115T080059Z.backup.gpg", false),
            ("bindery-20270115T08005Z.backup", false),
            ("bindery-2027-01-15.backup", false),
            ("bindery-20270115T08005aZ.backup", false),
            ("my-bindery-20270115T080059Z.backup", false),
            ("bindery-.backup", false),
            ("", false),
        ] {
            assert_eq!(has_name_of_backup(name), expected, "{name}");
        }
    }
}
