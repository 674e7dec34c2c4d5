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
}
