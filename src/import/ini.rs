//! Reads a file as Python's ConfigParser does, as far as `sydent.conf` needs it: sections, `[DEFAULT]`, `key = value` and
//! `key: value`, values that go on in indented lines, and `%(other key)s` in values.

use std::collections::BTreeMap;

/// The section whose values count in every other section.
const DEFAULT: &str = "DEFAULT";

/// How deep values may refer to others. Python has the same limit.
const MAX_DEPTH: usize = 10;

/// The sections of a file.
#[derive(Debug, Default)]
pub struct Ini {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Ini {
    /// Parses a file.
    ///
    /// # Errors
    /// The number of the first line that is neither a section nor a value, or that stands before the first section.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut ini = Self::default();
        let (mut section, mut key): (Option<String>, Option<String>) = (None, None);
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.starts_with(['#', ';']) {
                continue;
            }
            let values = section.as_ref().and_then(|section| ini.sections.get_mut(section));
            let value = values.zip(key.as_ref()).and_then(|(values, key)| values.get_mut(key));
            match value {
                Some(value) if trimmed.is_empty() || line.starts_with(char::is_whitespace) => {
                    value.push('\n');
                    value.push_str(trimmed);
                    continue;
                }
                _ if trimmed.is_empty() => continue,
                _ => {}
            }
            if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| Some(rest.split_once(']')?.0)) {
                ini.sections.entry(name.to_owned()).or_default();
                (section, key) = (Some(name.to_owned()), None);
                continue;
            }
            let values = section.as_ref().and_then(|section| ini.sections.get_mut(section));
            let (Some(values), Some((name, value))) = (values, trimmed.split_once(['=', ':'])) else {
                return Err(number + 1);
            };
            let name = name.trim().to_lowercase();
            values.insert(name.clone(), value.trim().to_owned());
            key = Some(name);
        }
        Ok(ini)
    }

    /// The value of a key in a section, or else in `[DEFAULT]`; `None` if it is in neither, or refers to a key that is in
    /// neither.
    pub fn get(&self, section: &str, key: &str) -> Option<String> {
        self.interpolated(section, key, MAX_DEPTH)
    }

    fn interpolated(&self, section: &str, key: &str, depth: usize) -> Option<String> {
        let find = |section: &str| self.sections.get(section)?.get(key);
        let mut rest = find(section).or_else(|| find(DEFAULT))?.trim_end();
        let mut value = String::new();
        while let Some((before, after)) = rest.split_once('%') {
            value.push_str(before);
            rest = match after.strip_prefix('%') {
                Some(after) => {
                    value.push('%');
                    after
                }
                None => {
                    let (other, after) = after.strip_prefix('(')?.split_once(")s")?;
                    value.push_str(&self.interpolated(
                        section,
                        &other.to_lowercase(),
                        depth.checked_sub(1)?,
                    )?);
                    after
                }
            };
        }
        Some(value + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_python_reads_it() {
        let text = "\u{feff}# a comment\n\n[DEFAULT]\nhost: id.example.org\nlog.path =\n\n[general]\nServer.Name = %(host)s\n\
                    long = one\n  two\n\n\tthree\n; another comment\nempty =\n[email]\n\
                    email.subject = %(nobody)s has 100%% of a = b : c\n[db]\nhost = other\ndb.file = /srv/%(host)s.db ; no comment\n";
        let ini = Ini::parse(text).expect("it is right");
        let get = |section, key| ini.get(section, key);
        assert_eq!(get("general", "server.name").as_deref(), Some("id.example.org"));
        assert_eq!(get("general", "long").as_deref(), Some("one\ntwo\n\nthree"));
        assert_eq!(get("general", "empty").as_deref(), Some(""));
        assert_eq!(get("general", "log.path").as_deref(), Some(""));
        assert_eq!(get("db", "db.file").as_deref(), Some("/srv/other.db ; no comment"));
        assert_eq!(get("email", "email.subject"), None, "it refers to a key that does not exist");
        assert_eq!(get("general", "nothing"), None);
        assert_eq!(get("http", "host").as_deref(), Some("id.example.org"), "a section that does not exist");
    }

    #[test]
    fn a_wrong_line_is_named_and_a_circle_ends() {
        assert_eq!(Ini::parse("[general]\nserver.name\n").expect_err("no value"), 2);
        assert_eq!(Ini::parse("server.name = a\n").expect_err("no section"), 1);
        assert_eq!(Ini::parse("  server.name = a\n").expect_err("no section"), 1);
        let circle = Ini::parse("[a]\nx = %(y)s\ny = %(x)s\nz = %x\n").expect("it is right");
        assert_eq!((circle.get("a", "x"), circle.get("a", "z")), (None, None));
    }
}
