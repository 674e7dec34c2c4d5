//! Every table, described where it is defined, and how all of them are opened.
//!
//! Reading is the same in a snapshot and inside a write transaction: both are [`Tables`], opened
//! by one or the other kind of transaction. What is read and written is in a file for each kind of
//! row; `docs/data.md` says of each table why it is there and for how long.

use std::{ops::Deref, sync::Arc};

use redb::{
    Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    Table, TableDefinition, Value, WriteTransaction,
};

use super::{StoreError, codec::decode, peppers::Indexes, rows::SigningKeyRow};
use crate::domain::{secret::Key32, time::Millis};

type Bytes = &'static [u8];

/// Facts about the database itself: `schema`, `server_name`, `session_key`; and, for the rewrite,
/// `removed` (since when the file may hold what was removed or never committed) and `rewritten` (when
/// that was); `round` and `accounts_round`, when the last rounds of retention were begun.
pub const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");
/// Key identifier (`ed25519:0`) -> seed and time of creation. Retired keys stay.
pub const SIGNING_KEYS: TableDefinition<&str, Bytes> = TableDefinition::new("signing_keys");
/// Number of the pepper -> pepper, and whether it is being prepared, in use, or on its way out.
pub const PEPPERS: TableDefinition<u64, Bytes> = TableDefinition::new("peppers");
/// SHA-256 of an access token -> its account, and the day of its latest use.
pub const TOKENS: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("tokens");
/// (number of the account, SHA-256 of an access token), so that an account finds its own. See
/// [`super::accounts::account_number`].
pub const ACCOUNT_TOKENS: TableDefinition<(u64, &[u8; 32]), ()> = TableDefinition::new("account_tokens");
/// (account, document) -> version of the document that the account accepted.
pub const CONSENTS: TableDefinition<(&str, &str), Bytes> = TableDefinition::new("consents");
/// Session ID -> validation session.
pub const SESSIONS: TableDefinition<&str, Bytes> = TableDefinition::new("sessions");
/// Keyed hash of (address, client secret) -> session ID.
pub const SESSION_INDEX: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("session_index");
/// (number of the medium, address) -> published association.
pub const ASSOCIATIONS: TableDefinition<(u8, &str), Bytes> = TableDefinition::new("associations");
/// (number of the account, number of the medium, address), so that an account finds its own.
pub const ACCOUNT_ADDRESSES: TableDefinition<(u64, u8, &str), ()> = TableDefinition::new("account_addresses");
/// Token -> pending invitation.
pub const INVITATIONS: TableDefinition<&str, Bytes> = TableDefinition::new("invitations");
/// (number of the medium, address, token) of every pending invitation, so that an address finds
/// its own.
pub const INVITED: TableDefinition<(u8, &str, &str), ()> = TableDefinition::new("invited");
/// Public half of an invitation's key -> the invitation's token.
pub const EPHEMERAL_KEYS: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("ephemeral_keys");
/// (number of the kind, token) -> what has to leave this machine.
pub const OUTBOX: TableDefinition<(u8, &str), Bytes> = TableDefinition::new("outbox");
/// (when it is due, number of the kind, token) of every row of the outbox.
pub const OUTBOX_DUE: TableDefinition<(u64, u8, &str), ()> = TableDefinition::new("outbox_due");
/// UTC day since the epoch -> how many messages went to telephones on it; only the last day is
/// kept.
pub const SMS_SENT: TableDefinition<u64, u32> = TableDefinition::new("sms_sent");
/// As `sms_sent`, for the invitations that were to be mailed.
pub const INVITES_SENT: TableDefinition<u64, u32> = TableDefinition::new("invites_sent");

/// SHA-256 of a visit's secret -> the address whose owner looks at what is stored, and until when.
pub const VISITS: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("visits");
/// Keyed hash of an address that nothing is to be sent to -> since when.
pub const SUPPRESSED: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("suppressed");
/// Number in the order of writing -> what an operator or a person had done to whom, as keyed hash.
pub const AUDIT: TableDefinition<u64, Bytes> = TableDefinition::new("audit");
/// Keyed hash of who looks up -> the moment, in microseconds, at which their budget is full again.
pub const BUDGETS: TableDefinition<u64, u64> = TableDefinition::new("budgets");
/// Number of a version of the privacy notice -> its date, what it was made from, and its texts.
pub const NOTICES: TableDefinition<u64, Bytes> = TableDefinition::new("notices");

/// Lookup hash -> Matrix ID: one table for each pepper, named by the pepper's number.
pub(super) fn lookup_table_name(pepper: u64) -> String {
    format!("lookup_{pepper}")
}

/// A kind of transaction, which opens tables of its own kind.
pub trait Transaction {
    /// An open table.
    type Open<K: Key + 'static, V: Value + 'static>: ReadableTable<K, V>;

    /// Opens a table.
    fn open<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
    ) -> Result<Self::Open<K, V>, StoreError>;
}

impl Transaction for ReadTransaction {
    type Open<K: Key + 'static, V: Value + 'static> = ReadOnlyTable<K, V>;

    fn open<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
    ) -> Result<Self::Open<K, V>, StoreError> {
        self.open_table(table).map_err(StoreError::new)
    }
}

impl<'txn> Transaction for &'txn WriteTransaction {
    type Open<K: Key + 'static, V: Value + 'static> = Table<'txn, K, V>;

    fn open<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
    ) -> Result<Self::Open<K, V>, StoreError> {
        self.open_table(table).map_err(StoreError::new)
    }
}

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
    pub(super) associations: T::Open<(u8, &'static str), Bytes>,
    pub(super) account_addresses: T::Open<(u64, u8, &'static str), ()>,
    pub(super) invitations: T::Open<&'static str, Bytes>,
    pub(super) invited: T::Open<(u8, &'static str, &'static str), ()>,
    pub(super) ephemeral_keys: T::Open<&'static [u8; 32], Bytes>,
    pub(super) outbox: T::Open<(u8, &'static str), Bytes>,
    pub(super) outbox_due: T::Open<(u64, u8, &'static str), ()>,
    pub(super) sms_sent: T::Open<u64, u32>,
    pub(super) invites_sent: T::Open<u64, u32>,
    pub(super) visits: T::Open<&'static [u8; 32], Bytes>,
    pub(super) suppressed: T::Open<&'static [u8; 32], Bytes>,
    pub(super) audit: T::Open<u64, Bytes>,
    pub(super) budgets: T::Open<u64, u64>,
    pub(super) notices: T::Open<u64, Bytes>,
    pub(super) indexes: Indexes<T>,
}

/// Numbers of rows.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Published addresses.
    pub associations: u64,
    /// Accepted documents.
    pub consents: u64,
    /// Addresses that nothing is sent to.
    pub suppressed: u64,
    /// Lookup budgets that are in use.
    pub budgets: u64,
    /// Days of which messages to telephones are counted.
    pub sms_days: u64,
    /// Days of which invitations are counted.
    pub invite_days: u64,
}

/// One committed state, shared by every request until the next commit. Opening a table costs half
/// a point read, so it is done once for each commit and not once for each request.
pub struct Snapshot {
    tables: Tables<ReadTransaction>,
    authorization: u64,
    /// Reads need it open, also when another one has taken its place.
    _database: Arc<Database>,
}

impl Snapshot {
    /// The latest committed state. See [`Snapshot::authorization`].
    pub(super) fn take(database: &Arc<Database>, authorization: u64) -> Result<Self, StoreError> {
        let tables = Tables::open(&database.begin_read().map_err(StoreError::new)?)?;
        Ok(Self { tables, authorization, _database: database.clone() })
    }

    /// Grows with every commit that removes or replaces a token or a consent. While it is the same, what
    /// was found out of an access token still holds.
    pub fn authorization(&self) -> u64 {
        self.authorization
    }
}

impl Deref for Snapshot {
    type Target = Tables<ReadTransaction>;

    fn deref(&self) -> &Self::Target {
        &self.tables
    }
}

/// Something that is done with every table, whatever its types.
pub(super) trait EachTable {
    /// Does it with one.
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        definition: TableDefinition<K, V>,
    ) -> Result<(), StoreError>;
}

/// Does something with every table of a database with these peppers.
pub(super) fn each_table(
    peppers: impl IntoIterator<Item = u64>,
    action: &mut impl EachTable,
) -> Result<(), StoreError> {
    action.table(META)?;
    action.table(SIGNING_KEYS)?;
    action.table(PEPPERS)?;
    action.table(TOKENS)?;
    action.table(ACCOUNT_TOKENS)?;
    action.table(CONSENTS)?;
    action.table(SESSIONS)?;
    action.table(SESSION_INDEX)?;
    action.table(ASSOCIATIONS)?;
    action.table(ACCOUNT_ADDRESSES)?;
    action.table(INVITATIONS)?;
    action.table(INVITED)?;
    action.table(EPHEMERAL_KEYS)?;
    action.table(OUTBOX)?;
    action.table(OUTBOX_DUE)?;
    action.table(SMS_SENT)?;
    action.table(INVITES_SENT)?;
    action.table(VISITS)?;
    action.table(SUPPRESSED)?;
    action.table(AUDIT)?;
    action.table(BUDGETS)?;
    action.table(NOTICES)?;
    peppers.into_iter().try_for_each(|pepper| {
        action.table(TableDefinition::<&[u8; 32], Bytes>::new(&lookup_table_name(pepper)))
    })
}

impl<T: Transaction> Tables<T> {
    /// Opens every table; a write transaction creates those that are not there.
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
            associations: transaction.open(ASSOCIATIONS)?,
            account_addresses: transaction.open(ACCOUNT_ADDRESSES)?,
            invitations: transaction.open(INVITATIONS)?,
            invited: transaction.open(INVITED)?,
            ephemeral_keys: transaction.open(EPHEMERAL_KEYS)?,
            outbox: transaction.open(OUTBOX)?,
            outbox_due: transaction.open(OUTBOX_DUE)?,
            sms_sent: transaction.open(SMS_SENT)?,
            invites_sent: transaction.open(INVITES_SENT)?,
            visits: transaction.open(VISITS)?,
            suppressed: transaction.open(SUPPRESSED)?,
            audit: transaction.open(AUDIT)?,
            budgets: transaction.open(BUDGETS)?,
            notices: transaction.open(NOTICES)?,
            indexes,
        })
    }

    /// The key that session tokens and index entries are hashed under.
    pub fn session_key(&self) -> Result<Key32, StoreError> {
        let row = self.meta.get("session_key").map_err(StoreError::new)?;
        decode(row.ok_or_else(|| StoreError::new("the session key is missing"))?.value())
    }

    /// Whether the file may hold what was removed since the last rewrite, or never committed.
    pub fn has_removed(&self) -> Result<bool, StoreError> {
        Ok(self.removed_since()?.is_some())
    }

    /// Since when at the earliest there is something in the file that was removed; `None` if there is
    /// nothing. It is when a round of retention was last begun before.
    pub fn removed_since(&self) -> Result<Option<Millis>, StoreError> {
        self.time("removed")
    }

    /// When the last round of retention was begun, if there was one.
    pub fn last_round(&self) -> Result<Option<Millis>, StoreError> {
        self.time("round")
    }

    /// When the last round was begun that looked at tokens and consents too, if there was one.
    pub fn last_round_of_accounts(&self) -> Result<Option<Millis>, StoreError> {
        self.time("accounts_round")
    }

    /// When the file was last rewritten, if it ever was.
    pub fn rewritten(&self) -> Result<Option<Millis>, StoreError> {
        self.time("rewritten")
    }

    fn time(&self, fact: &str) -> Result<Option<Millis>, StoreError> {
        self.meta.get(fact).map_err(StoreError::new)?.map(|row| decode(row.value())).transpose()
    }

    /// How many rows there are of what has no age.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        Ok(Counts {
            associations: self.associations.len().map_err(StoreError::new)?,
            consents: self.consents.len().map_err(StoreError::new)?,
            suppressed: self.suppressed.len().map_err(StoreError::new)?,
            budgets: self.budgets.len().map_err(StoreError::new)?,
            sms_days: self.sms_sent.len().map_err(StoreError::new)?,
            invite_days: self.invites_sent.len().map_err(StoreError::new)?,
        })
    }

    /// Every signing key with its identifier, the one in use first.
    pub fn signing_keys(&self) -> Result<Vec<(String, Key32)>, StoreError> {
        let mut keys = Vec::new();
        for row in self.signing_keys.iter().map_err(StoreError::new)? {
            let (id, bytes) = row.map_err(StoreError::new)?;
            let key: SigningKeyRow = decode(bytes.value())?;
            keys.push((key.created, id.value().to_owned(), key.seed));
        }
        keys.sort_by_key(|(created, ..)| std::cmp::Reverse(*created));
        Ok(keys.into_iter().map(|(_, id, seed)| (id, seed)).collect())
    }
}
