//! What an operator reads if a file cannot be used: its path, and what to do if the file system denies it.

use std::{io, path::Path};

/// Adds the path to an error of the file system, and what to do if access is denied. Keeps the kind of the error.
pub fn with_path(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| {
        let path = path.display();
        let kind = error.kind();
        let text = match kind {
            io::ErrorKind::PermissionDenied => format!(
                "cannot use {path}: {error}; give the user that runs bindery access to it and to each folder above it ('namei -l {path}' shows who has access)"
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
        let denied = with_path(Path::new("/etc/secret"))(io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(
            denied.to_string(),
            "cannot use /etc/secret: permission denied; give the user that runs bindery access to it and to each folder above it ('namei -l /etc/secret' shows who has access)"
        );
        let missing = with_path(Path::new("/etc/secret"))(io::ErrorKind::NotFound.into());
        assert_eq!(missing.to_string(), "cannot use /etc/secret: entity not found");
    }
}
