//! Which file a configuration is read from, and what a message calls it.

use std::{
    ffi::OsStr,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{ConfigError, user};
use crate::domain::file_error::with_path;

/// The file that is read if none is named and this one is there.
pub const DEFAULT_FILE: &str = "/etc/bindery/bindery.toml";

/// Where a configuration comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The file, if one was read.
    pub file: Option<PathBuf>,
    /// What is allowed there and is probably a mistake: a sentence each, for [`super::Config::warnings`].
    pub doubts: Vec<String>,
}

/// What a message about the configuration begins with.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display()),
            None => write!(f, "no configuration file"),
        }
    }
}

/// The file to read: the named one, otherwise [`DEFAULT_FILE`] if it is there. An empty name means no file.
pub fn choose_file(named: Option<&OsStr>) -> Option<PathBuf> {
    match named {
        Some(name) => Some(name).filter(|name| !name.is_empty()).map(PathBuf::from),
        // A file that this user may not see counts as there: reading it says so.
        None => match fs::metadata(DEFAULT_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            _ => Some(PathBuf::from(DEFAULT_FILE)),
        },
    }
}

/// Reads the text of a configuration file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| {
        let shown = path.display();
        ConfigError(vec![match error.kind() {
            io::ErrorKind::InvalidData => {
                format!("the configuration file {shown} is not UTF-8 text; save it as UTF-8")
            }
            io::ErrorKind::PermissionDenied => format!(
                "the configuration file, as the user {}: {}; or run this command as the user that runs the server, or name another file with --config or BINDERY_CONFIG",
                user::current(),
                with_path(path)(error)
            ),
            _ => format!(
                "the configuration file: {}; name another one with --config or BINDERY_CONFIG",
                with_path(path)(error)
            ),
        }])
    })?;
    // Editors on Windows write this mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
