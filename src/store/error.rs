//! The errors of the database, each with its cause: an unreadable row, the database or its disk, or a batch
//! that was undone.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::domain::file_error::with_path;

/// A failure of the database that no request caused. The text is for the operator's log and never for a caller.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A row cannot be decoded: the disk damaged it, or Bindery has a bug.
    #[error("a row cannot be read: {0}")]
    Unreadable(Arc<str>),
    /// The database cannot be read or written: the disk is full or fails, or the file is damaged.
    #[error("the database failed: {0}")]
    Database(Arc<redb::Error>),
    /// Another write of the same batch failed after it had changed a row, so the whole batch was undone.
    #[error("the write was undone, because another one in its batch failed: {0}")]
    Undone(Arc<str>),
    /// The writer has stopped. Nothing can be written before the next start.
    #[error("the writer has stopped: nothing can be written until the next start")]
    WriterStopped,
    /// An invariant of the database is broken.
    #[error("{0}")]
    Inconsistent(&'static str),
}

impl StoreError {
    /// A row that cannot be decoded, with the reason.
    pub(super) fn unreadable(what: impl Display) -> Self {
        Self::Unreadable(what.to_string().into())
    }

    /// Whether an unreadable row caused this, not the disk or the batch.
    pub fn is_unreadable_row(&self) -> bool {
        matches!(self, Self::Unreadable(_))
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Arc::new(error.into()))
    }
}

/// Why a data directory could not be opened, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process serves this directory.
    #[error(
        "the data directory {0} is in use by {1}; stop that process first, or set another data_dir for this server"
    )]
    InUse(PathBuf, String),
    /// The data directory or a file in it cannot be used.
    #[error("{0}")]
    File(io::Error),
    /// The directory or a file in it belongs to another user.
    #[error(
        "{path} belongs to the user {owner}, and this process runs as {user}: run it as {owner} (sudo -u '{owner}' bindery ...), or give the whole data directory to {user} with mode 0700"
    )]
    OtherOwner {
        /// The directory or file.
        path: PathBuf,
        /// The name of its owner, or the number.
        owner: String,
        /// The user of this process.
        user: String,
    },
    /// The database belongs to another server name.
    #[error(
        "the database belongs to the server name {stored}, but server_name is {configured}: set it back, or set another data_dir for the new server"
    )]
    OtherServerName {
        /// The name in the database.
        stored: String,
        /// The name in the configuration.
        configured: String,
    },
    /// A later version wrote the database.
    #[error(
        "the database has schema {0} and this Bindery knows schemas up to {1}: use the version that wrote it, or a later one"
    )]
    NewerSchema(u32, u32),
    /// An earlier version wrote the database, and this command does not migrate it.
    #[error(
        "an earlier version wrote the database (schema {0}; this Bindery uses {1}): start the server once with this version, which migrates it"
    )]
    OlderSchema(u32, u32),
    /// The database is damaged or the disk fails.
    #[error("cannot open the database: {0}")]
    Store(StoreError),
}

impl OpenError {
    /// Adds the path to an error of the file system.
    pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |error| Self::File(with_path(path)(error))
    }
}

impl<E: Into<StoreError>> From<E> for OpenError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}
