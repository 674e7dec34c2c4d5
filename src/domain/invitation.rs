//! A pending invitation: somebody was invited to a room by an address that leads to no Matrix ID
//! yet (specification, Identity Service API, "Invitation storage" and "Ephemeral invitation
//! signing").
//!
//! It knows what is said about an invitation and what is signed; who hears it is not its business.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    ids::{RoomId, Token, UserId},
    secret::Key32,
    signing::{FIRST_KEY_ID, KeyPair, PublicKey},
    threepid::Address,
    time::Millis,
};

/// The longest name of a room or person that a mail repeats, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// A pending invitation.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// What it is known by in the room.
    pub token: Token,
    /// The address that is invited.
    pub address: Address,
    /// The room it is for.
    pub room_id: RoomId,
    /// The account that invited.
    pub sender: UserId,
    /// The public key whose private half the mail carries.
    pub ephemeral_key: PublicKey,
    /// When it was made.
    pub created: Millis,
}

/// What the mail of an invitation repeats of what the inviter's homeserver said. None of it is
/// verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// What the room is called.
    pub room_name: Option<String>,
    /// What the inviter is called.
    pub inviter_name: Option<String>,
    /// Whether it is a space.
    pub is_space: bool,
}

impl Invitation {
    /// The key pair of an invitation: a keyed hash of its token, so that the private half is
    /// stored nowhere. It signs under the identifier that every homeserver knows.
    pub fn key_pair(token: &Token, key: &Key32) -> KeyPair {
        let seed = key.mac(&[b"invitation key", token.as_str().as_bytes()]);
        KeyPair::new(FIRST_KEY_ID, &Key32::new(seed))
    }

    /// Whether nobody may take it up any more.
    pub fn is_expired(&self, lifetime: Duration, now: Millis) -> bool {
        now >= self.created.after(lifetime)
    }

    /// Whether `private_key`, in base64, is the one that the mail carried.
    pub fn is_opened_by(&self, private_key: &str) -> bool {
        PublicKey::of_private_base64(private_key).is_some_and(|public| public == self.ephemeral_key)
    }

    /// What a homeserver is told about `user_id` and this invitation, to be signed (Server-Server
    /// API, "Third-party invites").
    pub fn claim(&self, user_id: &UserId) -> Map<String, Value> {
        let mut claim = Map::new();
        claim.insert("mxid".to_owned(), json!(user_id.as_str()));
        claim.insert("token".to_owned(), json!(self.token.as_str()));
        claim
    }

    /// The body of `/3pid/onbind` with this one invitation: those of others never travel with it.
    pub fn onbind(&self, user_id: &UserId, signed: Map<String, Value>) -> Value {
        let (medium, address) = (self.address.medium().as_str(), self.address.as_str());
        json!({
            "medium": medium,
            "address": address,
            "mxid": user_id.as_str(),
            "invites": [{
                "medium": medium,
                "address": address,
                "mxid": user_id.as_str(),
                "room_id": self.room_id.as_str(),
                "sender": self.sender.as_str(),
                "signed": signed,
            }],
        })
    }
}

/// The name that everybody in the room sees in place of an e-mail address: `f...@b...`, with at
/// most `shown` characters of each side and never all of one.
pub fn display_name(address: &Address, shown: usize) -> String {
    let cut = |part: &str| {
        let most = shown.min(part.chars().count().saturating_sub(1));
        format!("{}...", part.chars().take(most).collect::<String>())
    };
    match address.as_str().split_once('@') {
        Some((local, domain)) => format!("{}@{}", cut(local), cut(domain)),
        None => cut(address.as_str()),
    }
}

/// A name as a mail may repeat it: on one line, cut to [`MAX_NAME_CHARS`]; `None` if nothing is
/// left, or if a mail program would make a link of it, since strangers choose these names and
/// the mail is ours.
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

/// A text as people read it, to look for words in it: in lower case, without what shows nothing.
pub fn as_read(text: &str) -> String {
    let shows = |c: &char| c.is_whitespace() || plain(*c) != ' ';
    text.chars().filter(shows).flat_map(char::to_lowercase).collect()
}

/// Whether a mail may name an account whose Matrix ID begins so: nothing in it is hidden, and no
/// mail program makes a link of it. Dots alone are too common in names to be refused.
pub fn may_be_named(localpart: &str) -> bool {
    let text = localpart.to_ascii_lowercase();
    let is_web = text.strip_prefix("www").is_some_and(|rest| rest.starts_with(DOTS));
    !is_web && !text.contains(['/', '\\', '@']) && text.chars().all(|c| plain(c) == c)
}

/// What browsers take for the dot of a domain (UTS 46).
const DOTS: [char; 4] = ['.', '。', '．', '｡'];

/// A space for control characters and those that turn the direction of writing around or show
/// nothing; an apostrophe for quotation marks, since the mail puts names in them.
fn plain(c: char) -> char {
    match u32::from(c) {
        0xAD
        | 0x61C
        | 0x180E
        | 0x200B..=0x200F
        | 0x2028..=0x202E
        | 0x2060..=0x206F
        | 0xFEFF
        | 0xE0000..=0xE0FFF => ' ',
        _ if c.is_control() => ' ',
        0x22 | 0xAB | 0xBB | 0x201C..=0x201F | 0x2033 | 0x300C..=0x300F | 0xFF02 => '\'',
        _ => c,
    }
}

/// `https://x`, `www.x`, `x.example`, `a@b`: something with a dot between two letters or digits,
/// or a sign that only URLs and addresses have.
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
    fn a_display_name_never_shows_a_whole_side() {
        for (address, shown, expected) in [
            ("foo@bar.com", 1, "f...@b..."),
            ("foo@bar.com", 3, "fo...@bar..."),
            ("f@bar.com", 1, "...@b..."),
            ("foo@bar.com", 0, "...@..."),
            ("foo@bar.com", 99, "fo...@bar.co..."),
            ("ümlaut@bücher.example", 2, "üm...@bü..."),
        ] {
            let address = Address::email(address).expect("an address");
            assert_eq!(display_name(&address, shown), expected);
        }
    }

    #[test]
    fn what_is_read_is_what_is_compared() {
        assert_eq!(as_read("Ca\u{200b}S\u{ad}I\u{2060}no\u{202e} night"), "casino night");
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
        ] {
            assert_eq!(may_be_named(localpart), expected, "{localpart}");
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
