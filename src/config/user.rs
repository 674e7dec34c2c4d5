//! The users and groups in `/etc/passwd` and `/etc/group`: for messages about access, and for files that root gives away.

use std::fs;

use rustix::process::geteuid;

/// The name of the user that this process runs as.
pub fn current() -> String {
    name_of(geteuid().as_raw())
}

/// The user and the group of a user, by its name.
pub fn ids_of(user: &str) -> Option<(u32, u32)> {
    users().into_iter().find(|(name, ..)| name == user).map(|(_, uid, gid)| (uid, gid))
}

/// The name of a user, or `#` and the number, as `sudo -u` takes it.
pub fn name_of(user: u32) -> String {
    let found = users().into_iter().find(|(_, uid, _)| *uid == user);
    found.map_or_else(|| format!("#{user}"), |(name, ..)| name)
}

/// The name of a group, or `#` and the number.
pub fn group_name(group: u32) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(group)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{group}"))
}

/// Each user with its number and that of its group. The C library's functions would load the name service of the
/// system, which a static executable cannot.
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
