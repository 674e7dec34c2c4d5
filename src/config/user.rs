//! The names of users in `/etc/passwd`, for messages about access.

use std::fs;

use rustix::process::geteuid;

/// The name of the user that this process runs as.
pub fn current() -> String {
    name_of(geteuid().as_raw())
}

/// The name of a user, or `#` and the number, as `sudo -u` takes it.
pub fn name_of(user: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{user}"))
}
