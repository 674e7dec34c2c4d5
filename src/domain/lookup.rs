//! Lookup hashes of addresses, and the life of the pepper in them (specification, Identity Service API,
//! "Association lookup").

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    threepid::{Address, Medium},
    time::Millis,
};

/// No padding and no stray bits, so that one hash has one spelling.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The hash under which a client looks up an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupHash(pub [u8; 32]);

impl LookupHash {
    /// `sha256("<address> <medium> <pepper>")`.
    pub fn of(address: &Address, pepper: &str) -> Self {
        Self::of_canonical(address.medium(), address.as_str(), pepper)
    }

    /// Like [`LookupHash::of`], for the text of a stored address, which is canonical already.
    pub fn of_canonical(medium: Medium, text: &str, pepper: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [text, " ", medium.as_str(), " ", pepper] {
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// Reads 43 characters of URL-safe unpadded base64. `None` for anything else: callers treat it as a hash
    /// without a match, not as an error.
    pub fn from_base64(text: &str) -> Option<Self> {
        let mut bytes = [0; 33];
        if text.len() != 43 {
            return None;
        }
        let length = URL_SAFE.decode_slice(text, &mut bytes).ok()?;
        (length == 32).then(|| Self(bytes[..32].try_into().expect("33 bytes have 32")))
    }

    /// URL-safe unpadded base64, as the specification writes hashes.
    pub fn to_base64(self) -> String {
        URL_SAFE.encode(self.0)
    }
}

/// How a lookup request writes its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Hashed with the pepper.
    Sha256,
    /// In the clear, `<address> <medium>`.
    None,
}

impl Algorithm {
    /// Parses the specification's name of an algorithm.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "sha256" => Some(Self::Sha256),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    /// The specification's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::None => "none",
        }
    }
}

/// Reads `<address> <medium>`, the form of algorithm `none`. `None` means that the entry has no match.
pub fn parse_clear(text: &str) -> Option<Address> {
    let (address, medium) = text.rsplit_once(' ')?;
    let parsed = Address::parse(Medium::parse(medium)?, address)?;
    // Accept only the canonical form: the hash of another spelling would not match either.
    (parsed.as_str() == address).then_some(parsed)
}

/// The state of a pepper during rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PepperState {
    /// Bindery is building its index; clients do not know it yet.
    Next,
    /// Clients get this one from `hash_details`.
    Current,
    /// The one before the current; clients may still use it for a grace period.
    Previous {
        /// When the grace period ends and the pepper is deleted.
        until: Millis,
    },
}

impl PepperState {
    /// Whether a lookup may use this pepper.
    pub fn may_be_used(self, now: Millis) -> bool {
        match self {
            Self::Next => false,
            Self::Current => true,
            Self::Previous { .. } => !self.is_over(now),
        }
    }

    /// Whether the grace period of a previous pepper has ended, so that it must be deleted.
    pub fn is_over(self, now: Millis) -> bool {
        match self {
            Self::Next | Self::Current => false,
            Self::Previous { until } => now >= until,
        }
    }
}

/// The length of a pepper in characters.
pub const PEPPER_CHARS: usize = 24;

/// Makes a pepper of 24 letters and digits from random bytes. Bytes from 248 on are rejected, so that every
/// character is equally likely; `None` if too few bytes are left.
pub fn pepper_from_random(bytes: &[u8]) -> Option<String> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let usable = bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(*b % 62)]));
    let pepper: String = usable.take(PEPPER_CHARS).collect();
    (pepper.len() == PEPPER_CHARS).then_some(pepper)
}
