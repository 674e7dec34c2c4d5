//! The lock of a data directory, which only one process can hold.
//!
//! It is a separate file: the database's own lock follows the inode, and a rewrite replaces the database file.
//! The kernel releases the lock when the process ends, so a crash leaves none behind.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::OpenError;

/// The held lock.
pub struct Lock(File);

impl Lock {
    /// Takes the lock of `dir`. Writes the process ID into it, so that the next process can name this one.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(OpenError::at(&path))?;
        if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Some network file systems have no locks.
            if error != Errno::WOULDBLOCK {
                return Err(OpenError::at(&path)(error.into()));
            }
            let mut holder = String::new();
            let is_known = file.read_to_string(&mut holder).is_ok() && holder.trim().parse::<u32>().is_ok();
            let holder =
                if is_known { format!("process {}", holder.trim()) } else { "another process".to_owned() };
            return Err(OpenError::InUse(dir.to_owned(), holder));
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid(&mut file).map_err(OpenError::at(&path))?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing does not release it while a process that was just forked still has the file open.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
