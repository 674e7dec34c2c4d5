//! Puts the database of a backup into a data directory.
//!
//! It is built beside the present one, which stays until the last step: a rename. A crash leaves one of the two.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use redb::backends::FileBackend;
use rustix::process::geteuid;

use super::{BackupError, Contents, check, trailer::Trailer};
use crate::{
    domain::{file_error::with_path, secret::Key32, server_name::ServerName, time::Millis},
    store::{
        DATABASE_FILE, Genesis, OpenError, Store, StoreError, is_missing,
        lock::Lock,
        migrations::copies,
        owner::require_own,
        rewrite::{new_file, remove_if_there, sync_directory},
    },
};

/// A data directory whose database is to be replaced. No server can start in it meanwhile.
pub struct Restoring {
    path: PathBuf,
    /// The user and group that the directory belongs to, if root restores for them.
    owner: Option<(u32, u32)>,
    _lock: Lock,
}

impl Restoring {
    /// Takes the lock of the data directory `dir`, and creates the directory if there is none.
    ///
    /// # Errors
    /// If a server runs, or if the directory belongs to another user. Root may restore for others.
    pub fn begin(dir: &Path) -> Result<Self, BackupError> {
        if !dir.exists() {
            DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(OpenError::at(dir))?;
        }
        let owner = if geteuid().is_root() {
            let metadata = fs::metadata(dir).map_err(OpenError::at(dir))?;
            Some((metadata.uid(), metadata.gid()))
        } else {
            require_own(dir)?;
            None
        };
        let lock = Lock::take(dir)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(OpenError::at(dir))?;
        let restoring = Self { path: dir.join(DATABASE_FILE), owner, _lock: lock };
        restoring.give_to_owner(&dir.join("lock"))?;
        Ok(restoring)
    }

    /// Whether the directory has a database, which a restore would replace.
    pub fn has_database(&self) -> bool {
        self.path.parent().is_some_and(|dir| !is_missing(dir))
    }

    /// The file of the present database.
    pub fn database(&self) -> &Path {
        &self.path
    }

    /// Copies the database of the backup `path` beside the present one, and checks the copy.
    ///
    /// # Errors
    /// If the file is no backup or is damaged, or if the disk is full.
    pub fn copy(&self, path: &Path) -> Result<Contents, BackupError> {
        let unreadable = |error| BackupError::File(with_path(path)(error));
        let mut backup = File::open(path).map_err(unreadable)?;
        if !backup.metadata().map_err(unreadable)?.is_file() {
            return Err(BackupError::NotABackup(path.to_owned()));
        }
        let trailer = Trailer::read(&backup).map_err(unreadable)?;
        let trailer = trailer.ok_or_else(|| BackupError::NotABackup(path.to_owned()))?;
        let new_path = new_file(&self.path);
        let copied = self.copy_bytes(&mut backup, &new_path);
        copied.map_err(with_path(&new_path)).map_err(BackupError::File)?;
        // The copy is checked, and not the backup: nobody else can change it between the check and its use.
        let read = || {
            let mut copy = File::open(&new_path)?;
            Ok((trailer.is_right(&mut copy)?, copy))
        };
        let (is_right, copy) = read().map_err(with_path(&new_path)).map_err(BackupError::File)?;
        if !is_right {
            return Err(BackupError::damaged(path, "its bytes are not those that were written"));
        }
        let contents = check::read(copy, &trailer, path)?;
        let cut = OpenOptions::new().write(true).open(&new_path);
        let cut = cut.and_then(|file| file.set_len(trailer.database_len));
        cut.map_err(with_path(&new_path)).map_err(BackupError::File)?;
        Ok(contents)
    }

    fn copy_bytes(&self, backup: &mut File, new_path: &Path) -> io::Result<()> {
        match fs::remove_file(new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = OpenOptions::new().create_new(true).append(true).mode(0o600).open(new_path)?;
        self.chown(new_path)?;
        backup.rewind()?;
        io::copy(&mut backup.take(u64::MAX), &mut new)?;
        new.sync_all()
    }

    /// Opens the copy, and migrates it if a version with an earlier schema made the backup. No file of the present
    /// database is touched.
    ///
    /// # Errors
    /// If the copy belongs to another server name, or cannot be migrated.
    pub fn open(&self, name: &ServerName, now: Millis) -> Result<Store, BackupError> {
        let path = new_file(&self.path);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(OpenError::at(&path))?;
        let backend = FileBackend::new(file).map_err(StoreError::from)?;
        // A backup has everything that a new database would get.
        let genesis = || Genesis {
            signing_seed: Key32::new([0; 32]),
            pepper: String::new(),
            session_key: Key32::new([0; 32]),
            now,
        };
        Ok(Store::on_backend(backend, name, genesis)?)
    }

    /// Puts the copy, which must be closed, in the place of the present database. That one is kept beside it.
    /// Returns its new name, if there was one.
    ///
    /// # Errors
    /// If the disk fails. The present database is still there then.
    pub fn put_in_place(&self, now: Millis) -> Result<Option<PathBuf>, BackupError> {
        let new_path = new_file(&self.path);
        let in_place = || {
            File::open(&new_path)?.sync_all()?;
            let kept = self.has_database().then(|| copies::before_restore(&self.path, now));
            if let Some(kept) = &kept {
                // A second name first, so that there is a database at every moment.
                fs::hard_link(&self.path, kept)?;
                let at = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0);
                File::open(kept)?.set_modified(at)?;
            }
            fs::rename(&new_path, &self.path)?;
            Ok(kept)
        };
        let kept = in_place().map_err(with_path(&self.path)).map_err(BackupError::File)?;
        sync_directory(&self.path)?;
        Ok(kept)
    }

    /// Removes the copy after a failure.
    pub fn abandon(&self) {
        let _ = remove_if_there(&new_file(&self.path));
    }

    fn give_to_owner(&self, path: &Path) -> Result<(), OpenError> {
        self.chown(path).map_err(OpenError::at(path))
    }

    fn chown(&self, path: &Path) -> io::Result<()> {
        match self.owner {
            Some((user, group)) => chown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }
}
