//! The identifiers of the protocol: each type parses its text once and is valid from then on.
//!
//! Matrix IDs are personal data, and the others are secrets or nearly so, so none of them prints itself. The
//! grammars are the specification's (appendices, "Identifier Grammar"; Identity Service API, `client_secret` and
//! `sid`).

use ruma_common::OwnedUserId;

use super::{
    characters::is_invisible,
    secret::{redacted, url_text},
    server_name::ServerName,
};

/// A Matrix user ID of at most 255 bytes. Historical localparts are valid.
#[derive(Clone)]
pub struct UserId(OwnedUserId);

redacted!(UserId);

impl UserId {
    /// Parses `@localpart:server`; `None` if it is not a user ID, or has a character that people cannot see.
    pub fn parse(text: &str) -> Option<Self> {
        if is_visible(text) { Self::kept(text) } else { None }
    }

    /// Reads an ID that is stored or to be removed. Earlier versions accepted invisible characters, and such an
    /// account must still be able to leave.
    pub fn kept(text: &str) -> Option<Self> {
        // The first test is the fast one, and almost always decides.
        let plain = text.bytes().all(|b| b.is_ascii_graphic())
            || !text.contains(|c: char| c.is_control() || c.is_whitespace());
        if text.len() > 255 || !plain {
            return None;
        }
        let id = OwnedUserId::try_from(text).ok()?;
        ServerName::is_valid(id.server_name().as_str()).then_some(Self(id))
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The text between the `@` and the server's name. The user chose it.
    pub fn localpart(&self) -> &str {
        self.0.localpart()
    }

    /// The name of the account's homeserver.
    pub fn server_name(&self) -> &str {
        self.0.server_name().as_str()
    }

    /// Whether `server` is the homeserver of this account.
    pub fn is_on(&self, server: &ServerName) -> bool {
        self.server_name() == server.as_str()
    }
}

/// Whether a reader sees every character of a new identifier.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
        || !text.contains(|c: char| c.is_whitespace() || is_invisible(c))
}

/// Whether `text` is 1 to 255 characters of `[0-9a-zA-Z.=_-]`.
fn is_opaque_id(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'=' | b'_' | b'-'))
}

/// The secret that a client chooses for a validation session.
#[derive(Clone)]
pub struct ClientSecret(String);

redacted!(ClientSecret);

impl ClientSecret {
    /// Parses 1 to 255 characters of `[0-9a-zA-Z.=_-]`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        is_opaque_id(text).then(|| Self(text.to_owned()))
    }

    /// The secret itself, for hashing.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The identifier of a validation session.
#[derive(Clone)]
pub struct Sid(String);

redacted!(Sid);

impl Sid {
    /// Makes one from 16 random bytes (128 bits).
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(url_text(&bytes))
    }

    /// Parses 1 to 255 characters of `[0-9a-zA-Z.=_-]`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        is_opaque_id(text).then(|| Self(text.to_owned()))
    }

    /// The text that clients see.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An OpenID token that a homeserver issued to one of its users. Bindery shows it to that homeserver to confirm
/// the user.
#[derive(Clone)]
pub struct OpenIdToken(String);

redacted!(OpenIdToken);

impl OpenIdToken {
    /// Parses 1 to 4096 printable ASCII characters, because the token becomes part of a URL; `None` for anything
    /// else.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=4096).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The text, for the homeserver that issued it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A secret that Bindery issues, such as an access token or the token of a mailed link. Bindery stores its hash
/// or nothing.
#[derive(Clone)]
pub struct Token(String);

redacted!(Token);

impl Token {
    /// Makes one from 16 random or keyed bytes (128 bits), for links, which must fit on a line of a mail.
    pub fn short(bytes: [u8; 16]) -> Self {
        Self(url_text(&bytes))
    }

    /// Makes one from 32 random or keyed bytes (256 bits).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(url_text(&bytes))
    }

    /// Parses a token from a caller; `None` if it is empty, longer than 255 bytes or not printable ASCII.
    /// Bindery issues no such token.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The text that its owner sees.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The identifier of a room, at most 255 bytes. Rooms of version 12 have no server name in it.
#[derive(Clone)]
pub struct RoomId(String);

redacted!(RoomId);

impl RoomId {
    /// Parses `!` and at least one character after it, without spaces and characters that people cannot see;
    /// `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if is_visible(text) { Self::kept(text) } else { None }
    }

    /// Reads an ID that is stored. Earlier versions accepted invisible characters.
    pub fn kept(text: &str) -> Option<Self> {
        let plain = !text.contains(|c: char| c.is_control() || c.is_whitespace());
        let named = text.strip_prefix('!').is_some_and(|rest| !rest.is_empty());
        (named && plain && text.len() <= 255).then(|| Self(text.to_owned()))
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_identifiers_have_no_invisible_characters_and_stored_ones_may() {
        for hidden in [
            "\u{202e}",
            "\u{3164}",
            "\u{200b}",
            "\u{2066}",
            "\u{200d}",
            "\u{ad}",
            "\u{e0041}",
            "\u{fe0f}",
            "\u{e000}",
        ] {
            let (user, room) = (format!("@a{hidden}b:hs.test"), format!("!a{hidden}b:hs.test"));
            assert!(UserId::parse(&user).is_none() && UserId::kept(&user).is_some(), "{hidden:?}");
            assert!(RoomId::parse(&room).is_none() && RoomId::kept(&room).is_some(), "{hidden:?}");
            assert!(ServerName::parse(&format!("a{hidden}b.test")).is_none(), "{hidden:?}");
        }
        for never in ["\n", "\u{1b}", " ", "\u{a0}", "\u{85}"] {
            assert!(UserId::kept(&format!("@a{never}b:hs.test")).is_none(), "{never:?}");
            assert!(RoomId::kept(&format!("!a{never}b:hs.test")).is_none(), "{never:?}");
        }
        // Historical localparts stay valid; they are shown as escapes.
        for visible in ["@Ünïcode:hs.test", "@a\u{2236}b:hs.test", "@аlice:hs.test"] {
            assert!(UserId::parse(visible).is_some(), "{visible}");
        }
    }
}
