//! The passwords for the mail relay and the SMS gateway.

use std::path::Path;

use anyhow::Context;

use crate::config::Password;

/// The password in the configuration, or the first line of the password file.
///
/// # Errors
/// If the file cannot be read.
pub fn read_password(set: Option<&Password>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match (set, file) {
        (Some(password), _) => Ok(Some(password.0.clone())),
        (None, Some(path)) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
        }
        (None, None) => Ok(None),
    }
}
