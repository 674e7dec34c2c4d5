//! Sanitises names that strangers choose (rooms, people, Matrix IDs) before a mail quotes them.
//!
//! A quoted name must not become a link in a mail program, and must not look like something else.

use super::ids::UserId;

/// The longest name of a room or person that a mail quotes, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// A name as a mail may quote it: on one line, cut to [`MAX_NAME_CHARS`]. `None` if nothing is left, or if a
/// mail program would make a link of it.
pub fn name_for_mail(text: &str) -> Option<String> {
    let visible: String = text.chars().map(plain).collect();
    let name = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() || name.split(' ').any(looks_like_a_link) {
        return None;
    }
    if name.chars().count() <= MAX_NAME_CHARS {
        return Some(name);
    }
    Some(name.chars().take(MAX_NAME_CHARS - 1).chain(['…']).collect())
}

/// A text for keyword matching: in lower case, without invisible characters.
pub fn as_read(text: &str) -> String {
    let shows = |c: &char| c.is_whitespace() || plain(*c) != ' ';
    text.chars().filter(shows).flat_map(char::to_lowercase).collect()
}

/// Whether a mail may show the localpart of a Matrix ID: it has no invisible characters, and no mail program
/// makes a link of it. Dots alone are allowed, because many names have them.
pub fn localpart_may_be_shown(localpart: &str) -> bool {
    let text = localpart.to_ascii_lowercase();
    let is_web = text.strip_prefix("www").is_some_and(|rest| rest.starts_with(DOTS));
    !is_web && !text.contains(['/', '\\', '@', '?']) && text.chars().all(|c| plain(c) == c)
}

/// An account as a mail names it: its Matrix ID, or "@…" and its homeserver if [`localpart_may_be_shown`]
/// refuses the localpart. The confirmation page shows the whole Matrix ID.
pub fn account_for_mail(account: &UserId) -> String {
    if localpart_may_be_shown(account.localpart()) {
        account.as_str().to_owned()
    } else {
        format!("@…:{}", account.server_name())
    }
}

/// Characters that browsers read as the dot of a domain (UTS 46).
const DOTS: [char; 4] = ['.', '。', '．', '｡'];

/// Replaces control characters, invisible characters and those that change the direction of writing with a
/// space. Replaces quotation marks with an apostrophe, because the mail puts names in quotation marks.
fn plain(c: char) -> char {
    match u32::from(c) {
        0xAD
        | 0x34F
        | 0x61C
        | 0x115F..=0x1160
        | 0x17B4..=0x17B5
        | 0x180B..=0x180F
        | 0x200B..=0x200F
        | 0x2028..=0x202E
        | 0x2060..=0x206F
        | 0x2800
        | 0x3164
        | 0xFE00..=0xFE0F
        | 0xFEFF
        | 0xFFA0
        | 0xFFF9..=0xFFFB
        | 0xE0000..=0xE0FFF => ' ',
        _ if c.is_control() => ' ',
        0x22 | 0xAB | 0xBB | 0x201C..=0x201F | 0x2033 | 0x300C..=0x300F | 0xFF02 => '\'',
        _ => c,
    }
}

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
    fn an_account_that_looks_like_a_link_is_not_named() {
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
            assert_eq!(localpart_may_be_shown(localpart), expected, "{localpart}");
        }
    }

    #[test]
    fn of_an_account_like_a_link_a_mail_says_the_homeserver_only() {
        let named = |account: &str| account_for_mail(&UserId::parse(account).expect("a user ID"));
        assert_eq!(named("@alice:example.org"), "@alice:example.org");
        assert_eq!(named("@evil.example/log-in:example.org"), "@…:example.org");
    }

    #[test]
    fn names_are_one_plain_line_without_links() {
        let long = "x".repeat(200);
        let cut = format!("{}…", "x".repeat(63));
        for (text, expected) in [
            ("Dr. No's   lair", Some("Dr. No's lair")),
            ("a\r\nBcc: b", Some("a Bcc: b")),
            ("v1.2 room", Some("v1.2 room")),
            ("right\u{202e}left", Some("right left")),
            ("\"admin\", who“ is «x»", Some("'admin', who' is 'x'")),
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
