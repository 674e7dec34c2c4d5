//! The definition of every table, and how all of them are opened.
//!
//! Snapshots and write transactions read the same way: both are [`Tables`], opened by a kind of
//! [`Transaction`]. The methods are in `rows`, one file for each kind of row. `docs/data.md` says why each
//! table exists, and for how long its rows stay.

use super::{
    StoreError,
    lookup_index::Indexes,
    table::{Definition, EachTable, Holds, InBackup, Transaction},
};

type Bytes = &'static [u8];

/// Facts about the database itself: `schema`, `server_name`, `session_key`. For the rewrite, `removed` (since
/// when the file may hold removed or uncommitted bytes) and `rewritten` (the time of the last rewrite). `round`
/// and `accounts_round` are when the last rounds of retention began. `imported` is the import that the data began with, and `backed_up` is when the last backup was made;
/// only a backup has `backup`, see [`super::backup`].
pub(super) const META: Definition<&str, Bytes> = Definition::new("meta", Holds::Server, InBackup::Yes);
/// Key identifier (`ed25519:0`) -> seed and time of creation. Retired keys stay.
pub(super) const SIGNING_KEYS: Definition<&str, Bytes> =
    Definition::new("signing_keys", Holds::Server, InBackup::Yes);
/// Number of the pepper -> pepper, and whether it is being prepared, current, or previous.
pub(super) const PEPPERS: Definition<u64, Bytes> = Definition::new("peppers", Holds::Server, InBackup::Yes);
/// SHA-256 of an access token -> its account, and the day of its latest use.
pub(super) const TOKENS: Definition<&[u8; 32], Bytes> =
    Definition::new("tokens", Holds::Tokens, InBackup::Yes);
/// (number of the account, SHA-256 of an access token): the tokens of an account. See
/// [`super::rows::account_number`].
pub(super) const ACCOUNT_TOKENS: Definition<(u64, &[u8; 32]), ()> =
    Definition::new("account_tokens", Holds::People, InBackup::Yes);
/// (account, document) -> version of the document that the account accepted.
pub(super) const CONSENTS: Definition<(&str, &str), Bytes> =
    Definition::new("consents", Holds::Consents, InBackup::Yes);
/// Session ID -> validation session.
pub(super) const SESSIONS: Definition<&str, Bytes> = Definition::new("sessions", Holds::People, InBackup::No);
/// Keyed hash of (address, client secret) -> session ID.
pub(super) const SESSION_INDEX: Definition<&[u8; 32], Bytes> =
    Definition::new("session_index", Holds::People, InBackup::No);
/// (number of the medium, address, session ID): the sessions of an address.
pub(super) const ADDRESS_SESSIONS: Definition<(u8, &str, &str), ()> =
    Definition::new("address_sessions", Holds::People, InBackup::No);
/// (number of the account, session ID): the sessions of an account.
pub(super) const ACCOUNT_SESSIONS: Definition<(u64, &str), ()> =
    Definition::new("account_sessions", Holds::People, InBackup::No);
/// (number of the medium, address) -> published association.
pub(super) const ASSOCIATIONS: Definition<(u8, &str), Bytes> =
    Definition::new("associations", Holds::People, InBackup::Yes);
/// (number of the account, number of the medium, address): the published addresses of an account.
pub(super) const ACCOUNT_ADDRESSES: Definition<(u64, u8, &str), ()> =
    Definition::new("account_addresses", Holds::People, InBackup::Yes);
/// Token -> pending invitation.
pub(super) const INVITATIONS: Definition<&str, Bytes> =
    Definition::new("invitations", Holds::People, InBackup::Yes);
/// (number of the medium, address, token): the pending invitations to an address.
pub(super) const INVITED: Definition<(u8, &str, &str), ()> =
    Definition::new("invited", Holds::People, InBackup::Yes);
/// (number of the account, token): the pending invitations that an account sent.
pub(super) const ACCOUNT_INVITATIONS: Definition<(u64, &str), ()> =
    Definition::new("account_invitations", Holds::People, InBackup::Yes);
/// Public half of an invitation's key -> the invitation's token.
pub(super) const EPHEMERAL_KEYS: Definition<&[u8; 32], Bytes> =
    Definition::new("ephemeral_keys", Holds::People, InBackup::Yes);
/// (number of the kind, token) -> a message to send.
pub(super) const OUTBOX: Definition<(u8, &str), Bytes> =
    Definition::new("outbox", Holds::Queue, InBackup::No);
/// (when it is due, number of the kind, token): the rows of the outbox in the order in which they are due.
pub(super) const OUTBOX_DUE: Definition<(u64, u8, &str), ()> =
    Definition::new("outbox_due", Holds::Queue, InBackup::No);
/// UTC day since the epoch -> how many messages were sent to phones; only the last day is kept.
pub(super) const SMS_SENT: Definition<u64, u32> = Definition::new("sms_sent", Holds::Server, InBackup::Yes);
/// As `sms_sent`, for invitation mails.
pub(super) const INVITES_SENT: Definition<u64, u32> =
    Definition::new("invites_sent", Holds::Server, InBackup::Yes);
/// SHA-256 of a visit's secret -> the address of the visitor, the stage, and when it expires.
pub(super) const VISITS: Definition<&[u8; 32], Bytes> =
    Definition::new("visits", Holds::People, InBackup::No);
/// (number of the medium, address, SHA-256 of a visit's secret): the visits of an address.
pub(super) const ADDRESS_VISITS: Definition<(u8, &str, &[u8; 32]), ()> =
    Definition::new("address_visits", Holds::People, InBackup::No);
/// Keyed hash of an address that opted out -> since when.
pub(super) const SUPPRESSED: Definition<&[u8; 32], Bytes> =
    Definition::new("suppressed", Holds::People, InBackup::Yes);
/// Sequence number -> an entry of the audit: what was done, by whom, and to whom as a keyed hash.
pub(super) const AUDIT: Definition<u64, Bytes> = Definition::new("audit", Holds::People, InBackup::Yes);
/// (keyed hash of a subject, number of the entry): the entries about a subject.
pub(super) const SUBJECT_AUDIT: Definition<(&[u8; 32], u64), ()> =
    Definition::new("subject_audit", Holds::People, InBackup::Yes);
/// Keyed hash of an account, homeserver or network -> when, in microseconds, its lookup budget is full again.
pub(super) const BUDGETS: Definition<u64, u64> = Definition::new("budgets", Holds::People, InBackup::No);
/// Number of an edition of the privacy notice -> its date, its facts, and its texts.
pub(super) const NOTICES: Definition<u64, Bytes> = Definition::new("notices", Holds::Server, InBackup::Yes);

/// Every table, open.
pub struct Tables<T: Transaction> {
    pub(super) meta: T::Open<&'static str, Bytes>,
    pub(super) signing_keys: T::Open<&'static str, Bytes>,
    pub(super) peppers: T::Open<u64, Bytes>,
    pub(super) tokens: T::Open<&'static [u8; 32], Bytes>,
    pub(super) account_tokens: T::Open<(u64, &'static [u8; 32]), ()>,
    pub(super) consents: T::Open<(&'static str, &'static str), Bytes>,
    pub(super) sessions: T::Open<&'static str, Bytes>,
    pub(super) session_index: T::Open<&'static [u8; 32], Bytes>,
    pub(super) address_sessions: T::Open<(u8, &'static str, &'static str), ()>,
    pub(super) account_sessions: T::Open<(u64, &'static str), ()>,
    pub(super) associations: T::Open<(u8, &'static str), Bytes>,
    pub(super) account_addresses: T::Open<(u64, u8, &'static str), ()>,
    pub(super) invitations: T::Open<&'static str, Bytes>,
    pub(super) invited: T::Open<(u8, &'static str, &'static str), ()>,
    pub(super) account_invitations: T::Open<(u64, &'static str), ()>,
    pub(super) ephemeral_keys: T::Open<&'static [u8; 32], Bytes>,
    pub(super) outbox: T::Open<(u8, &'static str), Bytes>,
    pub(super) outbox_due: T::Open<(u64, u8, &'static str), ()>,
    pub(super) sms_sent: T::Open<u64, u32>,
    pub(super) invites_sent: T::Open<u64, u32>,
    pub(super) visits: T::Open<&'static [u8; 32], Bytes>,
    pub(super) address_visits: T::Open<(u8, &'static str, &'static [u8; 32]), ()>,
    pub(super) suppressed: T::Open<&'static [u8; 32], Bytes>,
    pub(super) audit: T::Open<u64, Bytes>,
    pub(super) subject_audit: T::Open<(&'static [u8; 32], u64), ()>,
    pub(super) budgets: T::Open<u64, u64>,
    pub(super) notices: T::Open<u64, Bytes>,
    pub(super) indexes: Indexes<T>,
}

impl<T: Transaction> Tables<T> {
    /// Opens every table. A write transaction creates missing ones.
    pub(super) fn open(transaction: &T) -> Result<Self, StoreError> {
        let peppers = transaction.open(PEPPERS)?;
        let indexes = Indexes::open(transaction, &peppers)?;
        Ok(Self {
            meta: transaction.open(META)?,
            signing_keys: transaction.open(SIGNING_KEYS)?,
            peppers,
            tokens: transaction.open(TOKENS)?,
            account_tokens: transaction.open(ACCOUNT_TOKENS)?,
            consents: transaction.open(CONSENTS)?,
            sessions: transaction.open(SESSIONS)?,
            session_index: transaction.open(SESSION_INDEX)?,
            address_sessions: transaction.open(ADDRESS_SESSIONS)?,
            account_sessions: transaction.open(ACCOUNT_SESSIONS)?,
            associations: transaction.open(ASSOCIATIONS)?,
            account_addresses: transaction.open(ACCOUNT_ADDRESSES)?,
            invitations: transaction.open(INVITATIONS)?,
            invited: transaction.open(INVITED)?,
            account_invitations: transaction.open(ACCOUNT_INVITATIONS)?,
            ephemeral_keys: transaction.open(EPHEMERAL_KEYS)?,
            outbox: transaction.open(OUTBOX)?,
            outbox_due: transaction.open(OUTBOX_DUE)?,
            sms_sent: transaction.open(SMS_SENT)?,
            invites_sent: transaction.open(INVITES_SENT)?,
            visits: transaction.open(VISITS)?,
            address_visits: transaction.open(ADDRESS_VISITS)?,
            suppressed: transaction.open(SUPPRESSED)?,
            audit: transaction.open(AUDIT)?,
            subject_audit: transaction.open(SUBJECT_AUDIT)?,
            budgets: transaction.open(BUDGETS)?,
            notices: transaction.open(NOTICES)?,
            indexes,
        })
    }
}

/// Calls `action` with every table except the lookup indexes, see [`super::lookup_index::each_index`].
pub(super) fn each_table(action: &mut impl EachTable) -> Result<(), StoreError> {
    action.table(META)?;
    action.table(SIGNING_KEYS)?;
    action.table(PEPPERS)?;
    action.table(TOKENS)?;
    action.table(ACCOUNT_TOKENS)?;
    action.table(CONSENTS)?;
    action.table(SESSIONS)?;
    action.table(SESSION_INDEX)?;
    action.table(ADDRESS_SESSIONS)?;
    action.table(ACCOUNT_SESSIONS)?;
    action.table(ASSOCIATIONS)?;
    action.table(ACCOUNT_ADDRESSES)?;
    action.table(INVITATIONS)?;
    action.table(INVITED)?;
    action.table(ACCOUNT_INVITATIONS)?;
    action.table(EPHEMERAL_KEYS)?;
    action.table(OUTBOX)?;
    action.table(OUTBOX_DUE)?;
    action.table(SMS_SENT)?;
    action.table(INVITES_SENT)?;
    action.table(VISITS)?;
    action.table(ADDRESS_VISITS)?;
    action.table(SUPPRESSED)?;
    action.table(AUDIT)?;
    action.table(SUBJECT_AUDIT)?;
    action.table(BUDGETS)?;
    action.table(NOTICES)
}
