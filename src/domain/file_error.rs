//! What an operator reads if a file cannot be used: its path, and what to do if the file system denies it.

use std::{io, path::Path};

/// Adds the path to an error of the file system. The error keeps its kind.
pub fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| {
        let path = path.display();
        let kind = error.kind();
        let text = match kind {
            io::ErrorKind::PermissionDenied => format!(
                "cannot use {path}: {error}; let the user that runs bindery use it and the folders above it (see 'namei -l {path}')"
            ),
            _ => format!("cannot use {path}: {error}"),
        };
        io::Error::new(kind, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_file_is_named_with_what_to_do() {
        let denied = at(Path::new("/etc/secret"))(io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(
            denied.to_string(),
            "cannot use /etc/secret: permission denied; let the user that runs bindery use it and the folders above it (see 'namei -l /etc/secret')"
        );
        let missing = at(Path::new("/etc/secret"))(io::ErrorKind::NotFound.into());
        assert_eq!(missing.to_string(), "cannot use /etc/secret: entity not found");
    }
}
