//! Entries of the audit log (design, P19): who was shown, given or removed whose data, and when.
//!
//! An entry names the person by a keyed hash only.

use serde::{Deserialize, Serialize};

use super::{secret::Key32, stop_link::StopToken, threepid::Address, time::Millis};

/// The audited action. Rows store its number, so add new ones at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// A person's data was exported.
    Export,
    /// A person's data was erased.
    Erasure,
    /// A new pepper replaced the current one.
    PepperRotation,
    /// Bindery sends nothing more to an address.
    Suppression,
    /// Bindery may send to an address again.
    SuppressionLifted,
    /// An address was unbound.
    Unbinding,
    /// An address was bound to another account than before.
    Replacement,
    /// The page about an address was opened.
    PageView,
    /// A log of lookups or callers was read.
    LogReading,
    /// A pending invitation to an address was cancelled.
    InvitationCancelled,
}

impl Deed {
    /// The name of the action in the audit log and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Erasure => "erasure",
            Self::PepperRotation => "pepper_rotation",
            Self::Suppression => "suppression",
            Self::SuppressionLifted => "suppression_lifted",
            Self::Unbinding => "unbinding",
            Self::Replacement => "replacement",
            Self::PageView => "page_view",
            Self::LogReading => "log_reading",
            Self::InvitationCancelled => "invitation_cancelled",
        }
    }
}

/// Who requested the action. Rows store its number, so add new ones at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The operator, with a command.
    Operator,
    /// The owner of the address, on their page.
    Owner,
    /// An account, with its access token.
    Account,
    /// Bindery itself.
    Server,
    /// The homeserver of the account, with its signature.
    Homeserver,
}

impl By {
    /// The name of the actor in the audit log and in exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Owner => "owner",
            Self::Account => "account",
            Self::Server => "server",
            Self::Homeserver => "homeserver",
        }
    }
}

/// An entry of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened.
    pub at: Millis,
    /// What happened.
    pub deed: Deed,
    /// Who requested it.
    pub by: By,
    /// The person as a keyed hash, see [`subject`]; `None` if the action is about no person.
    pub subject: Option<[u8; 32]>,
}

impl Entry {
    /// An entry about an address.
    pub fn about(address: &Address, deed: Deed, by: By, key: &Key32, at: Millis) -> Self {
        Self { at, deed, by, subject: Some(subject_of_address(key, address)) }
    }
}

/// The keyed hash of a Matrix ID. With the server's key and the name one can find its entries; the
/// entries do not reveal the name.
pub fn subject(key: &Key32, name: &str) -> [u8; 32] {
    key.mac(&[b"audit", name.as_bytes()])
}

/// The keyed hash of an address. It follows from a stop link, which does not hold the address.
pub fn subject_of_address(key: &Key32, address: &Address) -> [u8; 32] {
    StopToken::of(address, key).audit_subject(key)
}

/// The keyed hash of an address in entries from before there were stop links. Entries are kept for a year.
pub fn earlier_subject_of_address(key: &Key32, address: &Address) -> [u8; 32] {
    subject(key, &format!("{} {}", address.medium().as_str(), address.as_str()))
}
