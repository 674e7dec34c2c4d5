//! A directory that mails and messages are written into instead of being sent, for development.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

/// The directory, which is made when it is first needed.
pub struct Spool {
    directory: PathBuf,
    extension: &'static str,
    written: AtomicU64,
}

impl Spool {
    /// A directory for files with this extension.
    pub fn new(directory: PathBuf, extension: &'static str) -> Self {
        Self { directory, extension, written: AtomicU64::new(0) }
    }

    /// Writes one file that nobody else may read. Names sort by time, and no reader sees half of one.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn write(&self, bytes: Vec<u8>) -> std::io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:015}-{number:06}.{}", since_epoch.as_millis(), self.extension);
        let directory = self.directory.clone();
        let written = tokio::task::spawn_blocking(move || write(&directory, &name, &bytes));
        written.await.map_err(std::io::Error::other)?
    }
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let partial = directory.join(format!(".{name}.partial"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    fs::rename(partial, directory.join(name))
}
