//! The secret in the stop link of a mail: with it the owner of an address opts out of all messages, and in again, even
//! if Bindery stores nothing about the address.
//!
//! It is a keyed hash of the address under a key of its own, with a check value, so that nobody can make one and no
//! row is needed. No secret leads to the address. The list of opt-outs and the audit store a further keyed hash of
//! it, under another key: whoever has a link cannot find its rows, and whoever has the rows cannot make a link.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;

use super::{
    secret::{Key32, url_text},
    threepid::Address,
};

const HASH_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;

/// What a stop link knows of an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StopToken([u8; HASH_BYTES]);

impl StopToken {
    /// The token of an address. `key` is the server's session key.
    pub fn of(address: &Address, key: &Key32) -> Self {
        let parts = [b"address", address.medium().as_str().as_bytes(), address.as_str().as_bytes()];
        Self(first(link_key(key).mac(&parts)))
    }

    /// Reads the text of a link; `None` unless this server made it.
    pub fn parse(text: &str, key: &Key32) -> Option<Self> {
        let bytes: [u8; HASH_BYTES + CHECK_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (hash, check) = bytes.split_at(HASH_BYTES);
        let token = Self(hash.try_into().ok()?);
        bool::from(token.check(key).ct_eq(check)).then_some(token)
    }

    /// The text in a link: 32 characters that need no escaping in a URL or in a mail.
    pub fn text(self, key: &Key32) -> String {
        url_text(&[self.0.as_slice(), &self.check(key)].concat())
    }

    /// The keyed hash under which the list of opt-outs has the address.
    pub fn suppression_hash(self, key: &Key32) -> [u8; 32] {
        key.mac(&[b"suppressed by link", &self.0])
    }

    /// The keyed hash under which the audit has the address.
    pub fn audit_subject(self, key: &Key32) -> [u8; 32] {
        key.mac(&[b"audit of address", &self.0])
    }

    fn check(self, key: &Key32) -> [u8; CHECK_BYTES] {
        first(link_key(key).mac(&[b"check", &self.0]))
    }
}

fn link_key(key: &Key32) -> Key32 {
    Key32::new(key.mac(&[b"key of stop links"]))
}

fn first<const N: usize>(mac: [u8; 32]) -> [u8; N] {
    std::array::from_fn(|at| mac[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_that_made_a_link_reads_it() {
        let (key, other) = (Key32::new([1; 32]), Key32::new([2; 32]));
        let address = Address::email("alice@example.org").expect("an address");
        let token = StopToken::of(&address, &key);
        let text = token.text(&key);
        assert_eq!(text.len(), 32);
        assert!(StopToken::parse(&text, &key) == Some(token));
        assert!(StopToken::parse(&text, &other).is_none());
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert!(StopToken::parse(&wrong, &key).is_none(), "{at}");
        }
        for wrong in ["", "x", "=", &text[1..], &format!("{text}A"), &"é".repeat(16), &"A".repeat(32)] {
            assert!(StopToken::parse(wrong, &key).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_link_holds_none_of_the_hashes_that_are_stored() {
        let key = Key32::new([1; 32]);
        let address = Address::email("alice@example.org").expect("an address");
        let token = StopToken::of(&address, &key);
        let link = URL_SAFE_NO_PAD.decode(token.text(&key)).expect("base64");
        for stored in [token.suppression_hash(&key), token.audit_subject(&key)] {
            assert!(!stored.windows(8).any(|part| link.windows(8).any(|other| other == part)));
        }
        let other = Address::email("bob@example.org").expect("an address");
        assert!(StopToken::of(&other, &key) != token);
    }
}
