//! The copies of the database from before migrations and restores, and the removal of such files after a period
//! (design, P9).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    domain::time::{Millis, as_millis},
    store::{StoreError, rewrite::remove_if_there},
};

/// The path of the database at `path` after a restore has replaced it.
pub(in crate::store) fn before_restore(path: &Path, now: Millis) -> PathBuf {
    path.with_extension(format!("redb.before-restore-{}", now.0))
}

/// The copies of the database at `path`, and when each was made.
pub(in crate::store) fn list(path: &Path) -> Vec<(PathBuf, Millis)> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let kinds = ["schema-", "before-restore-"].map(|kind| format!("{name}.{kind}"));
    let copies = fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        let found = entry.file_name();
        let is_copy = found.to_str().is_some_and(|found| kinds.iter().any(|kind| found.starts_with(kind)));
        let modified = entry.metadata().ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        is_copy.then(|| (entry.path(), Millis(as_millis(modified))))
    });
    copies.collect()
}

/// Removes the copies that are older than `kept`. They hold rows that were deleted since.
///
/// # Errors
/// The first copy that could not be removed. The others are removed.
pub(in crate::store) fn remove_old(path: &Path, kept: Duration, now: Millis) -> Result<(), StoreError> {
    remove_aged(list(path), kept, now)
}

/// Removes the files that were made longer than `kept` ago. One from a wrong clock counts as made now.
///
/// # Errors
/// The first file that could not be removed. The others are removed.
pub(in crate::store) fn remove_aged(
    files: Vec<(PathBuf, Millis)>,
    kept: Duration,
    now: Millis,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    for (file, made) in files {
        if made.is_ahead_of(now) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0);
            outcome =
                outcome.and(File::open(&file).and_then(|file| file.set_modified(at)).map_err(Into::into));
        } else if now >= made.after(kept) {
            outcome = outcome.and(remove_if_there(&file));
        }
    }
    outcome
}
