//! The identifiers of the protocol: each type parses its text once and is valid from then on.
//!
//! Matrix IDs are personal data, and the others are secrets or nearly so, so none of them prints itself. The
//! grammars are the specification's (appendices, "Identifier Grammar"; Identity Service API, `client_secret` and
//! `sid`).

use ruma_common::OwnedUserId;

use super::{
    secret::{redacted, url_text},
    server_name::ServerName,
};

/// A Matrix user ID of at most 255 bytes. Historical localparts are valid.
#[derive(Clone)]
pub struct UserId(OwnedUserId);

redacted!(UserId);

impl UserId {
    /// Parses `@localpart:server`; `None` if it is not a user ID.
    pub fn parse(text: &str) -> Option<Self> {
        // The first test is the fast one, and almost always decides.
        let visible = text.bytes().all(|b| b.is_ascii_graphic())
            || !text.contains(|c: char| c.is_control() || c.is_whitespace());
        if text.len() > 255 || !visible {
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
    /// Parses `!` and at least one character after it, without spaces and control characters; `None` for
    /// anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let visible = !text.contains(|c: char| c.is_control() || c.is_whitespace());
        let named = text.strip_prefix('!').is_some_and(|rest| !rest.is_empty());
        (named && visible && text.len() <= 255).then(|| Self(text.to_owned()))
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
