//! Every table, described where it is defined, with what can be read from it.
//!
//! Reading is the same in a snapshot and inside a write transaction: both are [`Tables`], opened
//! by one or the other kind of transaction. Writing is in `writes`; sessions, invitations and the
//! outbox are read and written in files of their own.

use std::{ops::Deref, sync::Arc};

use redb::{
    Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    Value, WriteTransaction,
};

use super::{
    StoreError,
    codec::decode,
    rows::{AssociationRow, ConsentRow, PepperRow, SigningKeyRow, TokenRow, user_id},
};
use crate::domain::{
    association::Association,
    ids::{Token, UserId},
    lookup::LookupHash,
    secret::{Key32, SecretHash},
    threepid::Address,
    time::Millis,
};

type Bytes = &'static [u8];

/// Facts about the database itself: `schema`, `server_name`, `session_key`; and, for the rewrite,
/// `removed` (whether something personal was since the last one) and `rewritten` (when that was).
pub const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");
/// Key identifier (`ed25519:0`) -> seed and time of creation. Retired keys stay.
pub const SIGNING_KEYS: TableDefinition<&str, Bytes> = TableDefinition::new("signing_keys");
/// Number of the pepper -> pepper. The greatest number is in use.
pub const PEPPERS: TableDefinition<u64, Bytes> = TableDefinition::new("peppers");
/// SHA-256 of an access token -> its account.
pub const TOKENS: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("tokens");
/// (account, document) -> version of the document that the account accepted.
pub const CONSENTS: TableDefinition<(&str, &str), Bytes> = TableDefinition::new("consents");
/// Session ID -> validation session.
pub const SESSIONS: TableDefinition<&str, Bytes> = TableDefinition::new("sessions");
/// Keyed hash of (address, client secret) -> session ID.
pub const SESSION_INDEX: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("session_index");
/// (number of the medium, address) -> published association.
pub const ASSOCIATIONS: TableDefinition<(u8, &str), Bytes> = TableDefinition::new("associations");

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

/// Lookup hash -> Matrix ID: one table for each pepper, named by the pepper's number.
fn lookup_table_name(pepper: u64) -> String {
    format!("lookup_{pepper}")
}

/// The pepper in use.
pub(super) struct Pepper {
    pub number: u64,
    pub text: String,
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
    pub(super) tokens: T::Open<&'static [u8; 32], Bytes>,
    pub(super) consents: T::Open<(&'static str, &'static str), Bytes>,
    pub(super) sessions: T::Open<&'static str, Bytes>,
    pub(super) session_index: T::Open<&'static [u8; 32], Bytes>,
    pub(super) associations: T::Open<(u8, &'static str), Bytes>,
    pub(super) invitations: T::Open<&'static str, Bytes>,
    pub(super) invited: T::Open<(u8, &'static str, &'static str), ()>,
    pub(super) ephemeral_keys: T::Open<&'static [u8; 32], Bytes>,
    pub(super) outbox: T::Open<(u8, &'static str), Bytes>,
    pub(super) outbox_due: T::Open<(u64, u8, &'static str), ()>,
    pub(super) sms_sent: T::Open<u64, u32>,
    pub(super) lookup_index: T::Open<&'static [u8; 32], Bytes>,
    pub(super) pepper: Pepper,
}

/// One committed state, shared by every request until the next commit. Opening a table costs half
/// a point read, so it is done once for each commit and not once for each request.
pub struct Snapshot {
    tables: Tables<ReadTransaction>,
    /// Reads need it open, also when another one has taken its place.
    _database: Arc<Database>,
}

impl Snapshot {
    /// The latest committed state.
    pub(super) fn take(database: &Arc<Database>) -> Result<Self, StoreError> {
        let tables = Tables::open(&database.begin_read().map_err(StoreError::new)?)?;
        Ok(Self { tables, _database: database.clone() })
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
    action.table(CONSENTS)?;
    action.table(SESSIONS)?;
    action.table(SESSION_INDEX)?;
    action.table(ASSOCIATIONS)?;
    action.table(INVITATIONS)?;
    action.table(INVITED)?;
    action.table(EPHEMERAL_KEYS)?;
    action.table(OUTBOX)?;
    action.table(OUTBOX_DUE)?;
    action.table(SMS_SENT)?;
    peppers.into_iter().try_for_each(|pepper| {
        action.table(TableDefinition::<&[u8; 32], Bytes>::new(&lookup_table_name(pepper)))
    })
}

impl<T: Transaction> Tables<T> {
    /// Opens every table; a write transaction creates those that are not there.
    pub(super) fn open(transaction: &T) -> Result<Self, StoreError> {
        let pepper = current_pepper(&transaction.open(PEPPERS)?)?;
        let lookup_name = lookup_table_name(pepper.number);
        Ok(Self {
            meta: transaction.open(META)?,
            signing_keys: transaction.open(SIGNING_KEYS)?,
            tokens: transaction.open(TOKENS)?,
            consents: transaction.open(CONSENTS)?,
            sessions: transaction.open(SESSIONS)?,
            session_index: transaction.open(SESSION_INDEX)?,
            associations: transaction.open(ASSOCIATIONS)?,
            invitations: transaction.open(INVITATIONS)?,
            invited: transaction.open(INVITED)?,
            ephemeral_keys: transaction.open(EPHEMERAL_KEYS)?,
            outbox: transaction.open(OUTBOX)?,
            outbox_due: transaction.open(OUTBOX_DUE)?,
            sms_sent: transaction.open(SMS_SENT)?,
            lookup_index: transaction.open(TableDefinition::new(&lookup_name))?,
            pepper,
        })
    }

    /// The lookup pepper in use.
    pub fn pepper(&self) -> &str {
        &self.pepper.text
    }

    /// The key that session tokens and index entries are hashed under.
    pub fn session_key(&self) -> Result<Key32, StoreError> {
        let row = self.meta.get("session_key").map_err(StoreError::new)?;
        decode(row.ok_or_else(|| StoreError::new("the session key is missing"))?.value())
    }

    /// Whether something personal was removed since the last rewrite.
    pub fn has_removed(&self) -> Result<bool, StoreError> {
        Ok(self.meta.get("removed").map_err(StoreError::new)?.is_some())
    }

    /// When the file was last rewritten, if it ever was.
    pub fn rewritten(&self) -> Result<Option<Millis>, StoreError> {
        self.meta.get("rewritten").map_err(StoreError::new)?.map(|row| decode(row.value())).transpose()
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

    /// The account that an access token belongs to.
    pub fn token_owner(&self, token: &Token) -> Result<Option<UserId>, StoreError> {
        let row = self.tokens.get(&SecretHash::of(token.as_str()).0).map_err(StoreError::new)?;
        row.map(|row| user_id(decode::<TokenRow<'_>>(row.value())?.user_id)).transpose()
    }

    /// Whether an account accepted this version of a document, and no other one since.
    pub fn has_accepted(&self, user: &UserId, document: &str, version: &str) -> Result<bool, StoreError> {
        let row = self.consents.get((user.as_str(), document)).map_err(StoreError::new)?;
        row.map_or(Ok(false), |row| Ok(decode::<ConsentRow<'_>>(row.value())?.version == version))
    }

    /// The published association of an address.
    pub fn association(&self, address: &Address) -> Result<Option<Association>, StoreError> {
        let key = (address.medium().number(), address.as_str());
        let Some(row) = self.associations.get(key).map_err(StoreError::new)? else { return Ok(None) };
        let row: AssociationRow = decode(row.value())?;
        Ok(Some(Association {
            address: address.clone(),
            user_id: user_id(&row.user_id)?,
            ts: Millis(row.ts),
        }))
    }

    /// Calls `found` with the Matrix ID that a lookup hash leads to, if there is one.
    pub fn lookup(&self, hash: &LookupHash, found: impl FnOnce(&str)) -> Result<(), StoreError> {
        if let Some(row) = self.lookup_index.get(&hash.0).map_err(StoreError::new)? {
            found(decode(row.value())?);
        }
        Ok(())
    }
}

/// The pepper with the greatest number.
fn current_pepper(peppers: &impl ReadableTable<u64, Bytes>) -> Result<Pepper, StoreError> {
    let last = peppers.last().map_err(StoreError::new)?;
    let (number, row) = last.ok_or_else(|| StoreError::new("the database has no pepper"))?;
    Ok(Pepper { number: number.value(), text: decode::<PepperRow>(row.value())?.text })
}
