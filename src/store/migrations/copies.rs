//! The copies of the database from before migrations, and their removal after a period (design, P9).

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    domain::time::{Millis, as_millis},
    store::{StoreError, rewrite::remove_if_there},
};

/// The copies of the database at `path`, and when each was made.
pub(in crate::store) fn list(path: &Path) -> Vec<(PathBuf, Millis)> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let prefix = path.with_extension("redb.schema-");
    let Some(prefix) = prefix.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let copies = fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        let is_copy = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        let modified = entry.metadata().ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        is_copy.then(|| (entry.path(), Millis(as_millis(modified))))
    });
    copies.collect()
}

/// Removes the copies that are older than `kept`. They hold rows that were deleted since. One from a wrong clock
/// counts as made now.
///
/// # Errors
/// The first copy that could not be removed. The others are removed.
pub(in crate::store) fn remove_old(path: &Path, kept: Duration, now: Millis) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    for (copy, made) in list(path) {
        if made.is_ahead_of(now) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0);
            outcome =
                outcome.and(File::open(&copy).and_then(|file| file.set_modified(at)).map_err(Into::into));
        } else if now >= made.after(kept) {
            outcome = outcome.and(remove_if_there(&copy));
        }
    }
    outcome
}
