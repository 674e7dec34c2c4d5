//! A Unix socket for the reverse proxy: created for the server's user and group, and removed when the server ends.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::domain::file_error::with_path;

/// Whoever is in the group of the server may connect, like the user of the proxy.
const MODE: u32 = 0o660;

/// The file of a socket that this process listens on. Dropping it removes the file, unless another one took its place.
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl SocketFile {
    /// Listens on `path`. Replaces the socket of a server that has ended without removing it.
    ///
    /// # Errors
    /// If something else is there, or the folder does not allow it.
    pub fn bind(path: &Path) -> anyhow::Result<(UnixListener, Self)> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(with_path(path)).context("http.listen: the folder of the socket must exist and belong to the user that runs bindery (RuntimeDirectory= in a systemd unit makes one in /run)")?;
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(with_path(path))?;
        let metadata = fs::symlink_metadata(path).map_err(with_path(path))?;
        Ok((listener, Self { path: path.to_owned(), id: id(&metadata) }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |metadata: &fs::Metadata| metadata.file_type().is_socket() && id(metadata) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| is_ours(&metadata)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(with_path(path)(error)).context("http.listen"),
        Ok(metadata) if !metadata.file_type().is_socket() => bail!(
            "http.listen: {name} is there and is not a socket, so Bindery does not replace it: move it away, or name another path"
        ),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(with_path(path)).context("http.listen")
        }
        _ => bail!("http.listen: another program listens on {name}: stop it, or name another path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("http.sock");
        let refused = |words: &str| {
            let error = SocketFile::bind(&path).map(drop).expect_err("refused").to_string();
            assert!(error.contains(words), "{error}");
        };
        fs::write(&path, "precious").expect("written");
        refused("is not a socket");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join("link")).expect("a link");
        fs::rename(dir.path().join("link"), &path).expect("renamed");
        refused("is not a socket");
        fs::remove_file(&path).expect("removed");
        drop(UnixListener::bind(&path).expect("a socket"));
        let (listener, file) = SocketFile::bind(&path).expect("it replaces a stale one");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, MODE);
        refused("another program listens");
        drop((listener, file));
        assert!(!path.exists());
        let (_, file) = SocketFile::bind(&path).expect("a socket");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "precious").expect("written");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
    }
}
