//! What an operator types. Each kind of value is parsed here, for the command line and for the
//! control socket, so a mistake gets the same message with and without a running server.
//!
//! A field of a command is one of these with `#[serde(with = "input")]`.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

use crate::domain::{
    ids::{Token, UserId},
    threepid::Address,
};

/// The message for an operator whose input is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidInput(String);

/// A value that an operator types.
pub trait Input: Sized {
    /// Parses what was typed.
    ///
    /// # Errors
    /// What is wrong with it and how to write it.
    fn from_input(text: &str) -> Result<Self, InvalidInput>;

    /// A text that parses into the same value.
    fn as_input(&self) -> &str;
}

impl Input for Address {
    fn from_input(text: &str) -> Result<Self, InvalidInput> {
        Self::typed(text).ok_or_else(|| {
            InvalidInput(format!(
                "'{text}' is neither an email address nor a phone number; write a number with its country code, like +44 20 7946 0018"
            ))
        })
    }

    fn as_input(&self) -> &str {
        self.as_str()
    }
}

/// An address that can only be an email address.
#[derive(Clone, Debug)]
pub struct Email(pub Address);

impl Input for Email {
    fn from_input(text: &str) -> Result<Self, InvalidInput> {
        let address = Address::email(text).map(Self);
        address.ok_or_else(|| {
            InvalidInput(format!("'{text}' is not an email address; write it like alice@example.org"))
        })
    }

    fn as_input(&self) -> &str {
        self.0.as_str()
    }
}

impl Input for UserId {
    fn from_input(text: &str) -> Result<Self, InvalidInput> {
        Self::kept(text).ok_or_else(|| {
            InvalidInput(format!("'{text}' is not a Matrix ID; write it whole, like @alice:example.org"))
        })
    }

    fn as_input(&self) -> &str {
        self.as_str()
    }
}

impl Input for Token {
    fn from_input(text: &str) -> Result<Self, InvalidInput> {
        Self::parse(text).ok_or_else(|| {
            InvalidInput(format!(
                "'{text}' is not a token; a token has 1 to 255 ASCII characters and no spaces"
            ))
        })
    }

    fn as_input(&self) -> &str {
        self.as_str()
    }
}

/// For `#[serde(with = "input")]`.
pub(super) fn serialize<T: Input, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_input())
}

/// For `#[serde(with = "input")]`.
pub(super) fn deserialize<'de, T: Input, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::from_input(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}
