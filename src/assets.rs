//! What is compiled into the executable: pages, styles, mail templates, translations.
//!
//! An operator's directory may replace mail templates of a brand; choosing among them is all that
//! happens here. Rendering is done where a page or mail is made.

use std::{borrow::Cow, io, path::Path};

use rust_embed::Embed;

#[derive(Embed)]
#[folder = "assets"]
struct Files;

/// A file of `assets/`, by its path in there.
pub fn embedded(path: &str) -> Option<Cow<'static, [u8]>> {
    Files::get(path).map(|file| file.data)
}

/// A template: the operator's file for the brand if there is one, the built-in one otherwise.
///
/// `brand` and `path` must be checked names: letters, digits, `-`, `_`, `.` and, in `path`, `/`.
///
/// # Errors
/// If the operator's file is there and cannot be read.
pub fn template(directory: Option<&Path>, brand: &str, path: &str) -> io::Result<Option<String>> {
    match directory.map(|directory| std::fs::read_to_string(directory.join(brand).join(path))) {
        Some(Ok(own)) => Ok(Some(own)),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(embedded(path).and_then(|built_in| String::from_utf8(built_in.into_owned()).ok())),
    }
}
