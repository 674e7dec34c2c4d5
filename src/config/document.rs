//! The text of a configuration file: its values, the line of each key, and section headers that are commented out.

use std::collections::BTreeMap;

use toml::{
    Spanned, Table,
    de::{DeString, DeTable, DeValue},
};

use super::{schema::Known, syntax};

/// A configuration file that is valid TOML.
#[derive(Default)]
pub struct Document {
    text: String,
    /// Its values.
    pub table: Table,
    /// The number of the line in which each key or section is set first.
    lines: BTreeMap<String, usize>,
}

impl Document {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// The number of the line that is no TOML, and what is wrong with it.
    pub fn parse(text: String, known: &Known) -> Result<Self, (usize, String)> {
        let wrong = |error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            (line_of(&text, start), syntax::explain(&text, start, error.message(), known))
        };
        let located = DeTable::parse(&text).map_err(wrong)?;
        let mut lines = BTreeMap::new();
        collect_lines(&text, located.get_ref(), "", &mut lines);
        let table = text.parse().map_err(wrong)?;
        Ok(Self { lines, table, text })
    }

    /// The line in which a key is set, or the section that it belongs to if the key is missing.
    pub fn line(&self, path: &str) -> Option<usize> {
        let path = path.split('[').next().unwrap_or_default();
        let mut parents =
            std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(parent, _)| parent));
        parents.find_map(|path| self.lines.get(path).copied())
    }

    /// The nearest section header above a line that is commented out, and its line. `None` if another section begins
    /// between them.
    pub fn commented_header(&self, line: usize, known: &Known) -> Option<(usize, &str)> {
        let above: Vec<&str> = self.text.lines().take(line - 1).collect();
        let nearest = above.iter().enumerate().rev().find_map(|(number, line)| {
            let line = line.trim();
            let header = line.strip_prefix('#').map(str::trim).and_then(header_name);
            let commented = header.filter(|name| known.is_section(name));
            let is_end = commented.is_some() || line.starts_with('[');
            is_end.then(|| commented.map(|name| (number + 1, name)))
        });
        nearest.flatten()
    }

    /// Keys that stand below a section header that is commented out and has such a key, too: a sentence each. They
    /// count for the section above.
    pub fn doubts(&self, known: &Known) -> Vec<String> {
        let doubtful = self.lines.iter().filter_map(|(path, line)| {
            let (header, section) = self.commented_header(*line, known)?;
            let (own_section, key) = path.rsplit_once('.').unwrap_or(("", path));
            let is_meant = section != own_section && known.is_key(&format!("{section}.{key}"));
            (is_meant && known.is_key(path)).then(|| {
                format!(
                    "{key} in line {line} counts for [{own_section}], because the line {header} above it, [{section}], is commented out"
                )
            })
        });
        doubtful.collect()
    }
}

/// The name in a line like `[mail.smtp]`.
fn header_name(line: &str) -> Option<&str> {
    line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::trim)
}

fn collect_lines(text: &str, table: &DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table.iter() {
        let (key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>) = (key, value);
        let path = format!("{prefix}{}", key.get_ref());
        lines.insert(path.clone(), line_of(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(text, inner, &format!("{path}."), lines);
        }
    }
}

/// The number of the line at a byte of the text.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
