//! The copy of a person's data as a document: what is in it, by name.
//!
//! Its schema is published, so a change here is a change for whoever reads copies by program.

use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;

use crate::logs;

/// Everything that is stored about a person. Times are milliseconds since 1970 in UTC.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The name of the server that made this.
    pub server_name: String,
    /// When it was made.
    pub exported_at: u64,
    /// The address or Matrix ID that all of this is about.
    pub subject: String,
    /// Published addresses: whoever knows one finds the Matrix ID.
    pub bindings: Vec<Binding>,
    /// Proofs under way or done that an address is somebody's.
    pub validation_sessions: Vec<ValidationSession>,
    /// Invitations that wait for somebody with this address to publish it.
    pub invitations_received: Vec<ReceivedInvitation>,
    /// Invitations that this account sent and that nobody has taken up yet.
    pub invitations_sent: Vec<SentInvitation>,
    /// Access tokens of the account; the tokens themselves are not stored.
    pub access_tokens: Vec<AccessToken>,
    /// Documents that the account has accepted.
    pub consents: Vec<Consent>,
    /// What waits to be sent about this person.
    pub waiting_to_be_sent: Vec<Waiting>,
    /// Since when nothing is sent to this address, if that was asked for.
    pub not_written_to_since: Option<u64>,
    /// When the address was looked up since the pepper was last replaced. Earlier lookups are in the log for
    /// at most a week, and can be found by nobody any more.
    pub lookups: Vec<LookedUp>,
    /// What this account looked up, as far as the log of lookups goes.
    pub lookups_made: Vec<LookupMade>,
    /// Visits to the page on which the owner of this address sees what is stored.
    pub visits: Vec<OpenVisit>,
    /// When a copy was handed out, something erased, or writing to the address stopped.
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
    /// The address; masked for somebody who has only an access token.
    pub address: String,
    /// The Matrix ID that it leads to.
    pub user_id: String,
    /// Since when.
    pub since: u64,
    /// The language that its owner is written to in, as ISO 639-1 code.
    pub language: &'static str,
}

/// A validation session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ValidationSession {
    /// `email` or `msisdn`.
    pub medium: &'static str,
    /// The address; masked for somebody who has only an access token.
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
    /// When it came.
    pub since: u64,
    /// When it is deleted.
    pub until: u64,
}

/// An invitation that the account sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SentInvitation {
    /// The room.
    pub room_id: String,
    /// The address that was invited, as everybody in the room sees it.
    pub to: String,
    /// When it was sent.
    pub since: u64,
    /// When it is deleted.
    pub until: u64,
}

/// An access token.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AccessToken {
    /// When it was given out.
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
    /// When.
    pub accepted: u64,
}

/// Something that waits to be sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Waiting {
    /// What.
    pub kind: &'static str,
    /// Since when.
    pub since: u64,
    /// When it is tried next.
    pub due: u64,
    /// Until when it is tried at most.
    pub until: u64,
}

/// A lookup of the address.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LookedUp {
    /// When.
    pub at: u64,
    /// Whether it led to a Matrix ID.
    pub found: bool,
}

/// A lookup that the account made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LookupMade {
    /// When.
    pub at: u64,
    /// The IP address that it came from; only in what the operator is given, since others have tokens
    /// of the account too.
    pub ip: Option<String>,
    /// How many addresses were asked for.
    pub addresses: u64,
    /// How many of them led to a Matrix ID.
    pub found: u64,
}

/// A visit.
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
    /// What.
    pub deed: &'static str,
    /// By whom: `operator`, `owner`, `account` or `server`.
    pub by: &'static str,
}

impl From<logs::LookedUp> for LookedUp {
    fn from(lookup: logs::LookedUp) -> Self {
        Self { at: lookup.at.0, found: lookup.found }
    }
}

impl LookupMade {
    /// A lookup of the log, with its IP address if `shows_ip`.
    pub fn new(lookup: logs::LookupMade, shows_ip: bool) -> Self {
        let ip = shows_ip.then(|| lookup.ip.to_string());
        Self { at: lookup.at.0, ip, addresses: lookup.addresses, found: lookup.found }
    }
}
