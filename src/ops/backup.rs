//! Backups: makes one beside the requests, remembers when, and removes old ones from `backup.directory`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{refusal::Refusal, retention::BACKUP_OVERDUE, time::Millis},
    ops::{Core, Failure},
    store::{
        StoreError,
        backup::{self, BackupError, Contents, Progress},
    },
};

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Store(error) => Self::Store(error),
            // The operator named the file, and the message says what to do.
            other => Refusal::InvalidParam(other.to_string()).into(),
        }
    }
}

/// The backup that is being made. There is one at a time.
#[derive(Default)]
pub struct Backups {
    running: tokio::sync::Mutex<()>,
    progress: std::sync::Mutex<Option<Arc<Progress>>>,
}

impl Backups {
    fn set_progress(&self, progress: Option<Arc<Progress>>) {
        *self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = progress;
    }

    /// How many rows are copied, of how many. `None` if no backup is being made.
    pub fn rows(&self) -> Option<(u64, u64)> {
        let progress = self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        progress.as_ref().map(|progress| progress.rows())
    }
}

/// A backup that was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub contents: Contents,
}

/// Makes a backup into `file`, or into `backup.directory` under a name with the time.
///
/// # Errors
/// `InvalidParam` if the file cannot be used, or while another backup is being made.
pub async fn make(core: &Core, file: Option<PathBuf>) -> Result<Made, Failure> {
    let Ok(_running) = core.backups.running.try_lock() else {
        return Err(
            Refusal::InvalidParam("another backup is being made; try again after it".to_owned()).into()
        );
    };
    let now = core.clock.now();
    let in_directory = || Some(backup::path_in(core.config.backup.directory.as_deref()?, now));
    let path = file.or_else(in_directory).ok_or_else(|| {
        Refusal::InvalidParam(
            "name a file for the backup, like 'bindery backup /var/backups/bindery.backup', or set backup.directory"
                .to_owned(),
        )
    })?;
    require_outside(&core.config.data_dir, &path)?;
    let progress = Arc::new(Progress::default());
    core.backups.set_progress(Some(progress.clone()));
    let contents = core.store.back_up(path.clone(), now, progress).await;
    core.backups.set_progress(None);
    let contents = contents?;
    core.store.write(move |tables| tables.put_backed_up(now)).await?;
    Ok(Made { path, contents })
}

/// The rewrite, retention and a restore take every file of the data directory for theirs, and one disk that fails
/// takes both.
fn require_outside(data_dir: &Path, path: &Path) -> Result<(), BackupError> {
    let folder = path.parent().filter(|_| path.is_absolute() && path.file_name().is_some());
    let folder = folder.ok_or_else(|| BackupError::NoFile(path.to_owned()))?;
    let is_inside = match (folder.canonicalize(), data_dir.canonicalize()) {
        (Ok(folder), Ok(data_dir)) => folder.starts_with(data_dir),
        // A folder that is not there is reported when the file is written.
        _ => false,
    };
    if is_inside { Err(BackupError::InDataDir(path.to_owned())) } else { Ok(()) }
}

/// When the backups in `backup.directory` were made, the oldest first.
pub fn list(core: &Core) -> Vec<Millis> {
    let directory = core.config.backup.directory.as_deref();
    let kept = directory.map(|directory| backup::list(directory, core.clock.now())).unwrap_or_default();
    kept.into_iter().map(|backup| backup.made).collect()
}

/// Removes the backups in `backup.directory` that are older than `backup.keep_days`.
pub(in crate::ops) fn remove_old(core: &Core, now: Millis) -> Result<(), StoreError> {
    let config = &core.config.backup;
    config.directory.as_deref().map_or(Ok(()), |directory| backup::remove_old(directory, config.kept(), now))
}

/// When the last backup of this server was made, whatever the file.
pub fn last_success(core: &Core) -> Result<Option<Millis>, Failure> {
    Ok(core.store.read().backed_up()?)
}

/// Whether `backup.directory` is set and the last backup is over two days old. A server without any has two days from
/// its first start.
pub fn is_overdue(core: &Core, now: Millis) -> Result<bool, Failure> {
    let first_start = || core.in_force().editions.first().map(|edition| edition.published);
    let since = last_success(core)?.or_else(first_start);
    let is_late = since.is_some_and(|since| now >= since.after(BACKUP_OVERDUE));
    Ok(core.config.backup.directory.is_some() && is_late)
}
