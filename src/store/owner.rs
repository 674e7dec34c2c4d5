//! Whose the data directory is. A command that runs as root in the directory of another user would leave files that
//! the server cannot open.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use rustix::process::geteuid;

use super::{DATABASE_FILE, OpenError};

/// Refuses a data directory of another user, and a database or lock of another user in it.
///
/// # Errors
/// [`OpenError::OtherOwner`], which names both users.
pub fn require_own(dir: &Path) -> Result<(), OpenError> {
    let me = geteuid().as_raw();
    for path in [dir.to_owned(), dir.join("lock"), dir.join(DATABASE_FILE)] {
        let owner = match fs::metadata(&path) {
            Ok(metadata) => metadata.uid(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(OpenError::at(&path)(error)),
        };
        if owner != me {
            return Err(OpenError::OtherOwner { path, owner: name_of(owner), user: name_of(me) });
        }
    }
    Ok(())
}

/// The user and the group of a user, by its name in /etc/passwd.
pub fn ids_of(user: &str) -> Option<(u32, u32)> {
    users().into_iter().find(|(name, ..)| name == user).map(|(_, uid, gid)| (uid, gid))
}

/// The name of a user, or `#` and the number, as `sudo -u` takes it.
fn name_of(user: u32) -> String {
    let found = users().into_iter().find(|(_, uid, _)| *uid == user);
    found.map_or_else(|| format!("#{user}"), |(name, ..)| name)
}

/// The users in /etc/passwd, each with its number and that of its group. The C library's functions would load the name
/// service of the system, which a static executable cannot.
fn users() -> Vec<(String, u32, u32)> {
    let file = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let mut numbers = fields.skip(1).map_while(|field| field.parse().ok());
        Some((name, numbers.next()?, numbers.next()?))
    };
    file.lines().filter_map(user).collect()
}
