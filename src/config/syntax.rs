//! Explains a line of a configuration file that is no TOML. Never shows a value, which may be a password.

use super::schema::{Known, last};

/// Quotation marks that word processors and web pages write, and TOML does not know.
const WRONG_QUOTES: [char; 12] = ['“', '”', '„', '‟', '‘', '’', '‚', '«', '»', '″', '`', '´'];

/// What is wrong at this byte of a text, and what to write. `message` is the parser's, which is right for the rest.
pub fn explain(text: &str, offset: usize, message: &str, known: &Known) -> String {
    let begin = text[..offset].rfind('\n').map_or(0, |before| before + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    let above = &text[..begin];
    if message == "duplicate key" {
        return explain_duplicate(line, above);
    }
    let assignment = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    // Only a known name is shown: in a text of several lines, anything may stand before a '='.
    let name = assignment.map_or("...", |(key, _)| if known.is_name(last(key)) { last(key) } else { "..." });
    let value = assignment.map_or_else(|| line.trim(), |(_, value)| value);
    let at = text[offset..].chars().next();
    let first = value.trim_start_matches(['[', '{', ' ']).chars().next();
    let is_wrong_quote = |c: Option<char>| c.is_some_and(|c| WRONG_QUOTES.contains(&c));
    if is_wrong_quote(at) || is_wrong_quote(first) {
        let before = if name == "..." { String::new() } else { format!("{name} = ") };
        return format!("a typographic quotation mark; write straight ones: {before}\"...\"");
    }
    if assignment.is_none() {
        let is_key = |key: &str| known.is_name(last(key.trim()));
        return match line.split_once(':') {
            Some((key, _)) if is_key(key) => {
                format!("write '=' and not ':' behind a key: {} = ...", last(key.trim()))
            }
            _ => message.to_owned(),
        };
    }
    let word: String = value.chars().take_while(|c| c.is_alphanumeric()).collect();
    let is_switch = ["yes", "no", "on", "off", "true", "false"].contains(&word.to_ascii_lowercase().as_str());
    if value.is_empty() || value.starts_with('#') {
        format!("the value is missing; write it behind the '=': {name} = ...")
    } else if is_switch {
        format!("a switch is true or false, in small letters and without quotes: {name} = true")
    } else if value.starts_with(['"', '\'']) && !closes(value) {
        format!("the quotation mark at the end is missing: {name} = \"...\"")
    } else if is_unquoted(value) {
        format!("text must stand in quotation marks: {name} = \"...\"")
    } else {
        message.to_owned()
    }
}

/// Whether the quotation mark that a value begins with stands in it a second time.
fn closes(value: &str) -> bool {
    value.chars().next().is_some_and(|quote| value.matches(quote).count() > 1)
}

/// Whether a value looks like text: it begins with a letter, or like a path, a Matrix ID or an IP address.
fn is_unquoted(value: &str) -> bool {
    let begins_like_text = value.starts_with(|c: char| c.is_alphabetic() || "~/@*!$<".contains(c));
    let is_address = value.starts_with(|c: char| c.is_ascii_digit())
        && (value.contains([':', '/', '@']) || value.matches('.').count() > 1);
    begins_like_text || is_address
}

fn explain_duplicate(line: &str, above: &str) -> String {
    let line = line.trim();
    if line.starts_with('[') {
        let first = above.lines().position(|earlier| earlier.trim() == line);
        let place = first.map(|number| format!(", first in line {}", number + 1)).unwrap_or_default();
        return format!("this section is here a second time{place}; put all its keys below one header");
    }
    let key = line.split('=').next().unwrap_or_default().trim();
    let before: Vec<&str> = above.lines().collect();
    let section = before.iter().rposition(|line| line.trim().starts_with('[')).map_or(0, |header| header + 1);
    let is_same = |line: &&str| line.split_once('=').is_some_and(|(earlier, _)| earlier.trim() == key);
    let first = before[section..].iter().position(is_same).map(|number| section + number + 1);
    let place = first.map(|number| format!(", first in line {number}")).unwrap_or_default();
    format!(
        "this key is set a second time in its section{place}; remove one of the two, or write the header of its section above it if that is missing or commented out"
    )
}
