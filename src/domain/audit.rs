//! What is remembered of every time that somebody's data was handed out or removed (design, P19):
//! who had it done, what, when, and to whom as a keyed hash.

use serde::{Deserialize, Serialize};

use super::{secret::Key32, threepid::Address, time::Millis};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// What is stored about somebody was handed out.
    Export,
    /// It was erased.
    Erasure,
    /// The pepper was replaced.
    PepperRotation,
    /// An address is written to no more.
    Suppression,
    /// An address may be written to again.
    SuppressionLifted,
}

impl Deed {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Erasure => "erasure",
            Self::PepperRotation => "pepper_rotation",
            Self::Suppression => "suppression",
            Self::SuppressionLifted => "suppression_lifted",
        }
    }
}

/// Who had it done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The operator, with a command.
    Operator,
    /// The owner of the address, on their page.
    Owner,
    /// An account, with its access token.
    Account,
    /// The server by itself.
    Server,
}

impl By {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Owner => "owner",
            Self::Account => "account",
            Self::Server => "server",
        }
    }
}

/// An entry of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Millis,
    /// What.
    pub deed: Deed,
    /// By whom.
    pub by: By,
    /// To whom, see [`subject`]; `None` if it was to nobody in particular.
    pub subject: Option<[u8; 32]>,
}

/// What stands for an address or a Matrix ID: whoever has the key of this server and knows it can
/// find its entries, and nobody can read it from them.
pub fn subject(key: &Key32, name: &str) -> [u8; 32] {
    key.mac(&[b"audit", name.as_bytes()])
}

/// What stands for an address.
pub fn subject_of_address(key: &Key32, address: &Address) -> [u8; 32] {
    subject(key, &format!("{} {}", address.medium().as_str(), address.as_str()))
}
