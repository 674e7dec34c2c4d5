//! Names that strangers choose, for rooms and people: what of them a mail shows.
//!
//! A name keeps every script, but must not become a link in a mail program, and must not hide anything.

use super::characters::{is_invisible, without_invisible};

/// The longest name of a room or person that a mail quotes, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// The first strong isolate and its end: what is between them does not change the direction of the text around.
pub const ISOLATE: [char; 2] = ['\u{2068}', '\u{2069}'];

/// A name in a text without markup, isolated for direction.
pub fn isolated(name: &str) -> String {
    format!("{}{name}{}", ISOLATE[0], ISOLATE[1])
}

/// A name as a mail may show it: on one line, cut to [`MAX_NAME_CHARS`], without invisible characters that its
/// script does not need. `None` if nothing is left, or if a mail program would make a link of it.
pub fn name_for_mail(text: &str) -> Option<String> {
    let name = without_invisible(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() || name.split(' ').any(looks_like_a_link) {
        return None;
    }
    if name.chars().count() <= MAX_NAME_CHARS {
        return Some(name);
    }
    let cut: String = name.chars().take(MAX_NAME_CHARS - 1).collect();
    // The cut may have left a joiner at the end.
    Some(without_invisible(&cut) + "…")
}

/// A text for keyword matching: in lower case, without invisible characters.
pub fn as_read(text: &str) -> String {
    text.chars().filter(|c| c.is_whitespace() || !is_invisible(*c)).flat_map(char::to_lowercase).collect()
}

/// Whether invitations may come from an account with this localpart: mail programs make no link of it, and it
/// hides nothing. Dots alone are allowed, because many names have them.
pub fn is_plain_localpart(localpart: &str) -> bool {
    let text = localpart.to_ascii_lowercase();
    let is_web = text.strip_prefix("www").is_some_and(|rest| rest.starts_with(DOTS));
    !is_web && !text.contains(['/', '\\', '@', '?']) && !text.chars().any(is_invisible)
}

/// Characters that browsers read as the dot of a domain (UTS 46).
const DOTS: [char; 4] = ['.', '。', '．', '｡'];

/// Whether a word looks like `https://x`, `www.x`, `x.example` or `a@b`: a dot between a letter or digit and a
/// letter, or a sign that only URLs and addresses have.
fn looks_like_a_link(word: &str) -> bool {
    let characters: Vec<char> = word.chars().collect();
    let dotted = characters
        .windows(3)
        .any(|three| DOTS.contains(&three[1]) && three[0].is_alphanumeric() && three[2].is_alphabetic());
    dotted || word.contains('@') || word.contains("://") || word.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_is_compared() {
        assert_eq!(as_read("Ca\u{200b}\u{34f}S\u{ad}I\u{2060}no\u{202e} night"), "casino night");
    }

    #[test]
    fn an_account_that_looks_like_a_link_sends_no_invitations() {
        for (localpart, expected) in [
            ("alice", true),
            ("alice.smith", true),
            ("www", true),
            ("wwwonder.woman", true),
            ("irc_#room=a-b", true),
            ("www.evil.example", false),
            ("WWW.evil.example", false),
            ("www。evil.example", false),
            ("evil.example/your-account", false),
            ("https://evil.example", false),
            ("a\\b", false),
            ("a\u{202e}b", false),
            ("a\u{200b}b", false),
            ("a\u{3164}b", false),
            ("evil.example?x", false),
        ] {
            assert_eq!(is_plain_localpart(localpart), expected, "{localpart}");
        }
    }

    #[test]
    fn names_are_one_plain_line_without_links() {
        let long = "x".repeat(200);
        let cut = format!("{}…", "x".repeat(63));
        for (text, expected) in [
            ("Dr. No's   lair", Some("Dr. No's lair")),
            ("a\r\nBcc: b", Some("a Bcc: b")),
            ("v1.2 room", Some("v1.2 room")),
            ("right\u{202e}left\u{200b}\u{3164}", Some("rightleft")),
            ("\"admin\", who“ is «x»「y」", Some("\"admin\", who“ is «x»「y」")),
            ("אורח في संपर्क 部屋 👩\u{200d}🚀", Some("אורח في संपर्क 部屋 👩\u{200d}🚀")),
            ("می\u{200c}خواهم", Some("می\u{200c}خواهم")),
            ("pay\u{200d}pal", Some("paypal")),
            (long.as_str(), Some(cut.as_str())),
            ("win at evil.example now", None),
            ("https://evil", None),
            ("me@evil", None),
            (" \u{200b} ", None),
        ] {
            assert_eq!(name_for_mail(text).as_deref(), expected, "{text}");
        }
    }
}
