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

/// The name of a user in /etc/passwd, or `#` and the number, as `sudo -u` takes it.
pub fn name_of(user: u32) -> String {
    name_in("/etc/passwd", user)
}

/// The name of a group in /etc/group, or `#` and the number.
pub fn group_name(group: u32) -> String {
    name_in("/etc/group", group)
}

fn name_in(file: &str, id: u32) -> String {
    let lines = fs::read_to_string(file).unwrap_or_default();
    let name = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{id}"))
}
