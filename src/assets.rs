//! The files that are embedded in the executable: pages, styles, mail templates, translations.
//!
//! The operator may replace the mail templates of a brand. This module chooses the file and says how values are
//! escaped and formatted; its callers render it.

mod formats;

use std::{borrow::Cow, io, path::Path};

use minijinja::{AutoEscape, Environment, Error, Output, State, Value, escape_formatter};
use rust_embed::Embed;

pub use self::formats::add_formats;
use crate::domain::file_error::with_path;

#[derive(Embed)]
#[folder = "assets"]
struct Files;

/// A file of `assets/`, by its path in that directory.
pub fn embedded(path: &str) -> Option<Cow<'static, [u8]>> {
    Files::get(path).map(|file| file.data)
}

/// Makes an environment escape values in HTML, but no slashes: links stay whole in a mail that is read without
/// decoding. Texts for people are neither scripts nor attributes without quotes, so a slash means nothing there.
pub fn keep_slashes(environment: &mut Environment<'_>) {
    environment.set_formatter(
        |out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value| -> Result<(), Error> {
            if *state.auto_escape() != AutoEscape::Html || value.is_safe() {
                return escape_formatter(out, state, value);
            }
            Ok(out.write_str(&escape_html(&value.to_string()))?)
        },
    );
}

/// Keeps "e-mail" on one line: browsers break a word after its hyphen, except before a word joiner.
pub fn keep_words(html: &str) -> String {
    html.replace("e-mail", "e-\u{2060}mail").replace("E-Mail", "E-\u{2060}Mail")
}

/// A text as HTML.
pub fn escape_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#x27;"),
            _ => html.push(c),
        }
    }
    html
}

/// A template: the operator's file for the brand if it exists, otherwise the built-in one.
///
/// The caller must check `brand` and `path`: letters, digits, `-`, `_`, `.` and, in `path`, `/`.
///
/// # Errors
/// If the operator's file exists and cannot be read.
pub fn template(directory: Option<&Path>, brand: &str, path: &str) -> io::Result<Option<String>> {
    let own = directory.map(|directory| directory.join(brand).join(path));
    match own.map(|own| std::fs::read_to_string(&own).map_err(with_path(&own))) {
        Some(Ok(own)) => Ok(Some(own)),
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(embedded(path).and_then(|built_in| String::from_utf8(built_in.into_owned()).ok())),
    }
}
