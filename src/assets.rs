//! The files that are embedded in the executable: pages, styles, mail templates, translations.
//!
//! The operator may replace the mail templates of a brand. This module chooses the file; its callers render it.

use std::{borrow::Cow, io, path::Path};

use rust_embed::Embed;

#[derive(Embed)]
#[folder = "assets"]
struct Files;

/// A file of `assets/`, by its path in that directory.
pub fn embedded(path: &str) -> Option<Cow<'static, [u8]>> {
    Files::get(path).map(|file| file.data)
}

/// A template: the operator's file for the brand if it exists, otherwise the built-in one.
///
/// The caller must check `brand` and `path`: letters, digits, `-`, `_`, `.` and, in `path`, `/`.
///
/// # Errors
/// If the operator's file exists and cannot be read.
pub fn template(directory: Option<&Path>, brand: &str, path: &str) -> io::Result<Option<String>> {
    match directory.map(|directory| std::fs::read_to_string(directory.join(brand).join(path))) {
        Some(Ok(own)) => Ok(Some(own)),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(embedded(path).and_then(|built_in| String::from_utf8(built_in.into_owned()).ok())),
    }
}
