//! Why a backup could not be made, checked or restored, in words for the operator.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::store::{OpenError, StoreError};

/// Why it failed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read.
    #[error("{0}")]
    File(io::Error),
    /// The backup cannot be written.
    #[error(
        "cannot write the backup {path}: {error}. Nothing was changed. The process that has the database writes the file, so its user must be allowed to write in that folder. In the sandbox of systemd, name the folder in ReadWritePaths=; /tmp and /home are not those of other programs there"
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        error: io::Error,
    },
    /// Writing the backup failed half way.
    #[error("the backup {path} could not be written: {error}. Nothing was changed: is the disk full?")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What failed.
        error: StoreError,
    },
    /// A file with the name of the backup is something else.
    #[error("{0} exists and is no backup of Bindery: choose another name, or move it away")]
    Occupied(PathBuf),
    /// The backup would be in the data directory.
    #[error(
        "{0} is inside the data directory, where a backup would be lost with the database: choose another folder, best on another disk"
    )]
    InDataDir(PathBuf),
    /// The path names no file.
    #[error("{0} names no file: write the whole path of a file, like /var/backups/bindery.backup")]
    NoFile(PathBuf),
    /// The server stops, or the caller has gone.
    #[error("the backup was interrupted, and nothing was changed: try again")]
    Interrupted,
    /// The file is no backup.
    #[error(
        "{0} is no backup of Bindery, or its end is missing: copy it again, or use another one ('bindery backup' makes them)"
    )]
    NotABackup(PathBuf),
    /// The file is a backup, but its bytes have changed or contradict each other.
    #[error("{path} is damaged: {what}. Use another backup, or copy this one again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        what: String,
    },
    /// A later version made the backup.
    #[error(
        "{path} has schema {schema} and this Bindery knows schemas up to {known}: use the version that made it, or a later one"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u32,
        /// The schema of this program.
        known: u32,
    },
    /// The data directory cannot be used.
    #[error("{0}")]
    DataDir(#[from] OpenError),
    /// The database failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl BackupError {
    pub(super) fn unwritable(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::Unwritable { path: path.to_owned(), error }
    }

    pub(super) fn failed(path: &Path) -> impl Fn(StoreError) -> Self + '_ {
        move |error| Self::Failed { path: path.to_owned(), error }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}
