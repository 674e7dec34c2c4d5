//! How people see the identifiers that strangers chose, on pages, in mails and in the output of commands (design,
//! section 4, rule 13): the homeserver and the localpart apart, with everything outside printable ASCII escaped.

use std::fmt::Write;

use serde::Serialize;

use super::ids::{RoomId, UserId};

/// The parts of a Matrix ID or room ID, to be labelled and shown apart.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ShownId {
    /// The homeserver. `None` for a room whose ID names none (room version 12).
    pub homeserver: Option<String>,
    /// The part that the homeserver, or the person, chose.
    pub localpart: String,
}

impl ShownId {
    /// The parts of a Matrix ID.
    pub fn of_user(user: &UserId) -> Self {
        Self { homeserver: Some(visible(user.server_name())), localpart: visible(user.localpart()) }
    }

    /// The parts of a room ID.
    pub fn of_room(room: &RoomId) -> Self {
        let text = room.as_str().strip_prefix('!').unwrap_or(room.as_str());
        let (localpart, homeserver) = text.split_once(':').map_or((text, None), |(l, h)| (l, Some(h)));
        Self { homeserver: homeserver.map(visible), localpart: visible(localpart) }
    }

    /// The Matrix ID on one line, where there is no place for labels.
    pub fn whole_user(&self) -> String {
        format!("@{}:{}", self.localpart, self.homeserver.as_deref().unwrap_or_default())
    }
}

/// A text in printable ASCII: other characters become escapes like `\u{202e}`, and a backslash is doubled, so that
/// no two texts look the same. So do the signs by which mail programs recognise a link.
fn visible(text: &str) -> String {
    let is_web = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("www."));
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            '\\' => shown.push_str("\\\\"),
            '.' if is_web && at == 3 => shown.push_str("\\u{2e}"),
            '/' | '@' | '?' => push_escape(&mut shown, c),
            _ if c.is_ascii_graphic() => shown.push(c),
            _ => push_escape(&mut shown, c),
        }
    }
    shown
}

fn push_escape(text: &mut String, c: char) {
    // Writing into a string never fails.
    let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
}

/// A JSON text in ASCII: other characters become JSON escapes, so that a terminal shows them and a program reads the
/// same.
pub fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_identifier_are_printable_ascii_and_no_two_are_alike() {
        for (id, homeserver, localpart) in [
            ("@alice:example.org", "example.org", "alice"),
            ("@alice\u{202e}moc.elpmaxe:evil.test", "evil.test", "alice\\u{202e}moc.elpmaxe"),
            ("@alice\u{2236}example.com:evil.test", "evil.test", "alice\\u{2236}example.com"),
            ("@a\u{3164}b\u{200b}\u{2066}:[::1]:8448", "[::1]:8448", "a\\u{3164}b\\u{200b}\\u{2066}"),
            ("@аlice:example.org", "example.org", "\\u{430}lice"),
            ("@a\\u{430}b:example.org", "example.org", "a\\\\u{430}b"),
            ("@evil.example/log-in:hs.test", "hs.test", "evil.example\\u{2f}log-in"),
            ("@WWW.evil.example:hs.test", "hs.test", "WWW\\u{2e}evil.example"),
        ] {
            let shown = ShownId::of_user(&UserId::kept(id).expect("a user ID"));
            assert_eq!(shown.homeserver.as_deref(), Some(homeserver), "{id}");
            assert_eq!(shown.localpart, localpart, "{id}");
            assert_eq!(shown.whole_user(), format!("@{localpart}:{homeserver}"));
        }
    }

    #[test]
    fn the_parts_of_a_room_are_shown_like_those_of_an_account() {
        for (id, homeserver, localpart) in [
            ("!abc:example.org", Some("example.org"), "abc"),
            ("!abc", None, "abc"),
            ("!a\u{202e}b:exa\u{200b}mple.org:8448", Some("exa\\u{200b}mple.org:8448"), "a\\u{202e}b"),
        ] {
            let shown = ShownId::of_room(&RoomId::kept(id).expect("a room ID"));
            assert_eq!(
                (shown.homeserver.as_deref(), shown.localpart.as_str()),
                (homeserver, localpart),
                "{id}"
            );
        }
    }

    #[test]
    fn ascii_json_is_the_same_value() {
        for text in ["plain", "a\u{202e}b", "ü\u{7f}", "😀\u{e0041}\"\\"] {
            let json = ascii_json(&serde_json::to_string(text).expect("JSON"));
            assert!(json.bytes().all(|b| b.is_ascii_graphic()), "{json}");
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }
}
