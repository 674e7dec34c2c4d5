//! The lock that decides which process serves a data directory.
//!
//! A file of its own, because the database's own lock follows the inode and the database file
//! may be replaced. The lock lasts as long as the process holds the file open, so a crash leaves
//! none behind.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::OpenError;

/// The held lock.
pub struct Lock(File);

impl Lock {
    /// Takes the lock of `dir` and leaves this process's number in it for the next one to name.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let at_path = |error| OpenError::Directory(path.clone(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(at_path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let known = file.read_to_string(&mut holder).is_ok() && holder.trim().parse::<u32>().is_ok();
            let holder =
                if known { format!("process {}", holder.trim()) } else { "another process".to_owned() };
            return Err(OpenError::InUse(dir.to_owned(), holder));
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid(&mut file).map_err(at_path)?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough while a process that was just forked still has the file open.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}
