//! The passwords for the mail relay and the SMS gateway.

use std::path::Path;

use anyhow::ensure;

use crate::{config::Password, domain::file_error::with_path};

/// The password in the configuration, or the first line of the password file.
///
/// # Errors
/// If the file cannot be read or has no password.
pub fn read_password(set: Option<&Password>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match (set, file) {
        (Some(password), _) => Ok(Some(password.0.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(with_path(path))?;
            let path = path.display();
            let password = text.lines().next().unwrap_or_default();
            ensure!(!password.is_empty(), "{path} has no password: write it into the first line");
            let has_mark = password.starts_with('\u{feff}');
            ensure!(!has_mark, "{path} begins with a byte order mark: save it as UTF-8 without one");
            Ok(Some(password.to_owned()))
        }
        (None, None) => Ok(None),
    }
}
