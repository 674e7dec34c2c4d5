//! Hashes by which addresses are looked up, and the pepper that goes into them (specification,
//! Identity Service API, "Association lookup").
//!
//! Knows nothing of who asks or how many.

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

/// No padding and no stray bits: one hash has one spelling.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A hash that addresses are found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupHash(pub [u8; 32]);

impl LookupHash {
    /// `sha256("<address> <medium> <pepper>")`.
    pub fn of(address: &Address, pepper: &str) -> Self {
        Self::of_canonical(address.medium(), address.as_str(), pepper)
    }

    /// As [`LookupHash::of`], of an address that was parsed long ago and is in its canonical form.
    pub fn of_canonical(medium: Medium, text: &str, pepper: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [text, " ", medium.as_str(), " ", pepper] {
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// Reads 43 characters of URL-safe unpadded base64. `None` for anything else, which is a hash
    /// that matches nothing, not an error.
    pub fn from_base64(text: &str) -> Option<Self> {
        let mut bytes = [0; 33];
        if text.len() != 43 {
            return None;
        }
        let length = URL_SAFE.decode_slice(text, &mut bytes).ok()?;
        (length == 32).then(|| Self(bytes[..32].try_into().expect("33 bytes have 32")))
    }

    /// The spelling that the specification uses.
    pub fn to_base64(self) -> String {
        URL_SAFE.encode(self.0)
    }
}

/// How the addresses of a lookup are written.
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

/// Reads `<address> <medium>`, the form of algorithm `none`. `None` is an entry without a match.
pub fn parse_clear(text: &str) -> Option<Address> {
    let (address, medium) = text.rsplit_once(' ')?;
    let parsed = Address::parse(Medium::parse(medium)?, address)?;
    // Clients send the canonical form; anything else matches nothing, as its hash would not.
    (parsed.as_str() == address).then_some(parsed)
}

/// How far a pepper is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PepperState {
    /// It is being prepared; nobody knows it yet.
    Next,
    /// It is the one that clients are told.
    Current,
    /// It was, and may be used until then.
    Previous {
        /// When it is forgotten.
        until: Millis,
    },
}

impl PepperState {
    /// Whether a lookup may be made with it.
    pub fn may_be_used(self, now: Millis) -> bool {
        match self {
            Self::Next => false,
            Self::Current => true,
            Self::Previous { .. } => !self.is_over(now),
        }
    }

    /// Whether it is time to forget it.
    pub fn is_over(self, now: Millis) -> bool {
        match self {
            Self::Next | Self::Current => false,
            Self::Previous { until } => now >= until,
        }
    }
}

/// The length of a pepper in characters.
pub const PEPPER_CHARS: usize = 24;

/// Makes a pepper of 24 letters and digits from random bytes, or `None` if too few of the bytes
/// were usable (rejection keeps every character equally likely).
pub fn pepper_from_random(bytes: &[u8]) -> Option<String> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let usable = bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(*b % 62)]));
    let pepper: String = usable.take(PEPPER_CHARS).collect();
    (pepper.len() == PEPPER_CHARS).then_some(pepper)
}
