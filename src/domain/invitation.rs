//! Pending invitations: an account invited an address that is not bound to a Matrix ID yet (specification,
//! Identity Service API, "Invitation storage" and "Ephemeral invitation signing").

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    ids::{RoomId, Token, UserId},
    secret::Key32,
    signing::{FIRST_KEY_ID, KeyPair, PublicKey},
    threepid::Address,
    time::Millis,
};

/// A pending invitation.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The token that names the invitation in the room.
    pub token: Token,
    /// Whom it invites.
    pub invited: Invited,
    /// The room.
    pub room_id: RoomId,
    /// The account that sent the invitation.
    pub sender: UserId,
    /// The public half of the key pair; the mail carries the private half.
    pub ephemeral_key: PublicKey,
    /// When the account sent it.
    pub created: Millis,
}

/// Whom an invitation invites.
#[derive(Clone, Debug)]
pub enum Invited {
    /// The owner of this address.
    Address(Address),
    /// The owner of an address that had opted out of messages. Bindery does not store the address, so it can never
    /// deliver the invitation.
    OptedOut {
        /// The address as [`masked`] shows it, for the inviter's copy of their data.
        masked: String,
    },
}

impl Invited {
    /// The address, if it is stored.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Address(address) => Some(address),
            Self::OptedOut { .. } => None,
        }
    }

    /// The masked address.
    pub fn masked(&self) -> String {
        match self {
            Self::Address(address) => masked(address),
            Self::OptedOut { masked } => masked.clone(),
        }
    }
}

/// The room and the inviter, as the inviter's homeserver describes them. The mail quotes it; none of it is
/// verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// The name of the room, or else its alias.
    pub room_name: Option<String>,
    /// The display name of the inviter.
    pub inviter_name: Option<String>,
    /// Whether the room is a space.
    pub is_space: bool,
}

impl Invitation {
    /// Derives the key pair of an invitation from its token and the server's key, so that Bindery does not store
    /// the private half. Its identifier is the one that every homeserver knows.
    pub fn key_pair(token: &Token, key: &Key32) -> KeyPair {
        let seed = key.mac(&[b"invitation key", token.as_str().as_bytes()]);
        KeyPair::new(FIRST_KEY_ID, &Key32::new(seed))
    }

    /// Whether it has expired, so that it can no longer be accepted.
    pub fn is_expired(&self, lifetime: Duration, now: Millis) -> bool {
        now >= self.created.after(lifetime)
    }

    /// The key pair of `private_key`, in base64, if it is the one in the mail. That of an imported invitation does not
    /// follow from the token.
    pub fn opened_by(&self, private_key: &str) -> Option<KeyPair> {
        let pair = KeyPair::from_private_base64(FIRST_KEY_ID, private_key);
        pair.filter(|pair| pair.public() == self.ephemeral_key)
    }

    /// The JSON that Bindery signs for a homeserver: `user_id` holds the address of this invitation
    /// (Server-Server API, "Third-party invites").
    pub fn claim(&self, user_id: &UserId) -> Map<String, Value> {
        let mut claim = Map::new();
        claim.insert("mxid".to_owned(), json!(user_id.as_str()));
        claim.insert("token".to_owned(), json!(self.token.as_str()));
        claim
    }

    /// The body of `/3pid/onbind`, for the invited address. It has only this invitation, so that a homeserver never
    /// sees invitations of others.
    pub fn onbind(&self, address: &Address, user_id: &UserId, signed: Map<String, Value>) -> Value {
        let (medium, address) = (address.medium().as_str(), address.as_str());
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

/// The most characters of each side of an address that a room may show. More would show most of the address to
/// everybody in the room.
pub const MAX_SHOWN_CHARACTERS: usize = 3;

/// The name that the room shows instead of an email address: `f...@b...`. It has at most `shown` characters of
/// each side, never more than [`MAX_SHOWN_CHARACTERS`], and never a whole side.
pub fn display_name(address: &Address, shown: usize) -> String {
    let cut = |part: &str| {
        let most = shown.min(MAX_SHOWN_CHARACTERS).min(part.chars().count().saturating_sub(1));
        format!("{}...", part.chars().take(most).collect::<String>())
    };
    match address.as_str().split_once('@') {
        Some((local, domain)) => format!("{}@{}", cut(local), cut(domain)),
        None => cut(address.as_str()),
    }
}

/// A masked address, for a reader who has not proved that it is theirs: `a...@e...`, or the last two digits of
/// a phone number.
pub fn masked(address: &Address) -> String {
    match address.as_str().contains('@') {
        true => display_name(address, 1),
        false => format!("...{}", &address.as_str()[address.as_str().len() - 2..]),
    }
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
            ("foo@bar.com", 99, "fo...@bar..."),
            ("stranger.personal@mail.example.org", 60, "str...@mai..."),
            ("ümlaut@bücher.example", 2, "üm...@bü..."),
        ] {
            let address = Address::email(address).expect("an address");
            assert_eq!(display_name(&address, shown), expected);
        }
    }
}
