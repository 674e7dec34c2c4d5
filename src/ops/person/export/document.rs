//! The document of a person's exported data.
//!
//! Its schema is published, so a change here affects programs that read exports.

use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;

use crate::logs;

/// Everything that is stored about a person. Times are milliseconds since 1970 in UTC.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The name of the server that made this document.
    pub server_name: String,
    /// When it was made.
    pub exported_at: u64,
    /// The address or Matrix ID that this document is about.
    pub subject: String,
    /// Published addresses. Anyone who knows one can find the Matrix ID.
    pub bindings: Vec<Binding>,
    /// Validation sessions, pending or completed.
    pub validation_sessions: Vec<ValidationSession>,
    /// Pending invitations to the address.
    pub invitations_received: Vec<ReceivedInvitation>,
    /// Pending invitations that this account sent.
    pub invitations_sent: Vec<SentInvitation>,
    /// Access tokens of the account. The tokens themselves are not stored.
    pub access_tokens: Vec<AccessToken>,
    /// Documents that the account has accepted.
    pub consents: Vec<Consent>,
    /// Queued messages about this person.
    pub waiting_to_be_sent: Vec<Waiting>,
    /// When the address opted out of messages, if it did.
    pub not_written_to_since: Option<u64>,
    /// When the address was looked up since the last pepper rotation. The log keeps earlier lookups for a week
    /// at most, but they cannot be found by address any more.
    pub lookups: Vec<LookedUp>,
    /// Lookups that this account made, as far as the log of lookups goes back.
    pub lookups_made: Vec<LookupMade>,
    /// Visits to the page that shows the owner of this address what is stored.
    pub visits: Vec<OpenVisit>,
    /// When data was exported or erased, and when the address opted out of messages or back in.
    pub audit: Vec<Audited>,
}

impl Export {
    /// The JSON Schema of the document.
    pub fn schema() -> Schema {
        schema_for!(Self)
    }
}

/// A published address.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Binding {
    /// `email` or `msisdn`.
    pub medium: &'static str,
    /// The address. Masked in a copy for an access token.
    pub address: String,
    /// The Matrix ID that a lookup finds.
    pub user_id: String,
    /// When it was published.
    pub since: u64,
    /// The language of messages to the owner, as ISO 639-1 code.
    pub language: &'static str,
}

/// A validation session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ValidationSession {
    /// `email` or `msisdn`.
    pub medium: &'static str,
    /// The address. Masked in a copy for an access token.
    pub address: String,
    /// `pending`, `validated` or `withdrawn`.
    pub state: &'static str,
    /// When it last changed.
    pub modified: u64,
    /// When it is deleted.
    pub until: u64,
}

/// An invitation to the address.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReceivedInvitation {
    /// The room.
    pub room_id: String,
    /// When it was stored.
    pub since: u64,
    /// When it is deleted.
    pub until: u64,
}

/// An invitation that the account sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SentInvitation {
    /// The room.
    pub room_id: String,
    /// The invited address, masked.
    pub to: String,
    /// When it was sent.
    pub since: u64,
    /// When it is deleted.
    pub until: u64,
}

/// An access token.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AccessToken {
    /// When it was issued.
    pub since: u64,
    /// When it was last used, to the day.
    pub used: u64,
}

/// A document that the account has accepted.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Consent {
    /// The document.
    pub document: String,
    /// Its version.
    pub version: String,
    /// When the account accepted it.
    pub accepted: u64,
}

/// A queued message.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Waiting {
    /// Its kind.
    pub kind: &'static str,
    /// When it was queued.
    pub since: u64,
    /// When the next attempt is due.
    pub due: u64,
    /// When Bindery gives up.
    pub until: u64,
}

/// A lookup of the address.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LookedUp {
    /// When.
    pub at: u64,
    /// Whether a Matrix ID was found.
    pub found: bool,
}

/// A lookup that the account made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LookupMade {
    /// When.
    pub at: u64,
    /// The IP address that it came from. Only in a copy for the operator, because others may have tokens of the
    /// account too.
    pub ip: Option<String>,
    /// How many addresses were looked up.
    pub addresses: u64,
    /// How many of them were found.
    pub found: u64,
}

/// A visit to the page.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OpenVisit {
    /// When it ends.
    pub until: u64,
}

/// An entry of the audit.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Audited {
    /// When.
    pub at: u64,
    /// What was done.
    pub deed: &'static str,
    /// Who did it: `operator`, `owner`, `account` or `server`.
    pub by: &'static str,
}

impl From<logs::LookedUp> for LookedUp {
    fn from(lookup: logs::LookedUp) -> Self {
        Self { at: lookup.at.0, found: lookup.found }
    }
}

impl LookupMade {
    /// A lookup from the log, with its IP address if `shows_ip`.
    pub fn new(lookup: logs::LookupMade, shows_ip: bool) -> Self {
        let ip = shows_ip.then(|| lookup.ip.to_string());
        Self { at: lookup.at.0, ip, addresses: lookup.addresses, found: lookup.found }
    }
}
