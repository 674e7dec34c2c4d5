//! How much room the database takes, and how much is left for it.

use std::{fs, io, path::Path};

use rustix::fs::statvfs;

/// The room on the disk, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// The size of the file.
    pub used: u64,
    /// What is free in its file system for a process without privileges.
    pub free: u64,
}

impl Room {
    pub(super) fn of(file: &Path) -> io::Result<Self> {
        let disk = statvfs(file)?;
        Ok(Self { used: fs::metadata(file)?.len(), free: disk.f_bavail.saturating_mul(disk.f_frsize) })
    }
}
