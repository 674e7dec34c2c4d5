//! A directory into which mails and messages are written instead of being sent, for development.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use crate::domain::{file_error::with_path, retention::SPOOL};

/// The directory. The first write creates it.
pub struct Spool {
    directory: PathBuf,
    extension: &'static str,
    written: AtomicU64,
}

impl Spool {
    /// Writes files with this extension.
    pub fn new(directory: PathBuf, extension: &'static str) -> Self {
        Self { directory, extension, written: AtomicU64::new(0) }
    }

    /// Writes one file with mode 0600, atomically. Names sort by time.
    ///
    /// # Errors
    /// Those of the file system.
    #[expect(clippy::disallowed_methods, reason = "names sort by real time, as modification times do")]
    pub async fn write(&self, bytes: Vec<u8>) -> std::io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:015}-{number:06}.{}", since_epoch.as_millis(), self.extension);
        let directory = self.directory.clone();
        let written = tokio::task::spawn_blocking(move || write(&directory, &name, &bytes));
        // The text of a panic may quote the message.
        written.await.map_err(|_| std::io::Error::other("writing the file panicked"))?
    }
}

/// Deletes files older than a week, because they contain addresses. The clock is the file system's.
///
/// # Errors
/// Those of the file system.
#[expect(clippy::disallowed_methods, reason = "the age of a file is about real time")]
pub fn remove_old(directory: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(with_path(directory))?,
    };
    for entry in entries {
        let entry = entry?;
        let modified = entry.metadata()?.modified()?;
        // So far ahead, it is from a wrong clock.
        let distance = modified.elapsed().unwrap_or_else(|error| error.duration());
        if distance > SPOOL && entry.file_name().to_str().is_some_and(is_name) {
            let path = entry.path();
            fs::remove_file(&path).map_err(with_path(&path))?;
        }
    }
    Ok(())
}

/// Whether [`Spool::write`] gives such names, for whole and partial files. Other files in the directory are the
/// operator's.
fn is_name(name: &str) -> bool {
    let is_number = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial")).unwrap_or(name);
    name.strip_suffix(".eml")
        .or(name.strip_suffix(".txt"))
        .and_then(|name| name.split_once('-'))
        .is_some_and(|(time, count)| is_number(time, 15) && is_number(count, 6))
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(with_path(directory))?;
    let partial = directory.join(format!(".{name}.partial"));
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
    let mut file = created.map_err(with_path(&partial))?;
    file.write_all(bytes)?;
    fs::rename(partial, directory.join(name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn files_older_than_a_week_are_deleted_and_other_files_stay() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let spool = Spool::new(dir.path().to_owned(), "eml");
        let names = || {
            let entries = fs::read_dir(dir.path()).expect("a directory");
            let names =
                entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        spool.write(b"old".to_vec()).await.expect("written");
        let old = names().remove(0);
        fs::write(dir.path().join(format!(".{old}.partial")), "half").expect("written");
        fs::write(dir.path().join("notes.txt"), "somebody's").expect("written");
        #[expect(clippy::disallowed_methods, reason = "the age of a file is about real time")]
        let long_ago = SystemTime::now() - SPOOL - Duration::from_secs(60);
        for name in names() {
            let file = fs::OpenOptions::new().write(true).open(dir.path().join(name)).expect("a file");
            file.set_modified(long_ago).expect("set");
        }
        spool.write(b"new".to_vec()).await.expect("written");
        remove_old(dir.path()).expect("removed");
        let left = names();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left.contains(&"notes.txt".to_owned()) && !left.contains(&old), "{left:?}");
        remove_old(&dir.path().join("nowhere")).expect("nothing to do");
    }
}
