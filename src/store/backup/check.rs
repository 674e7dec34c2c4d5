//! Checks a backup: its checksum, the pages of its database, every row, and what leads from one row to another.
//!
//! The file is never changed, and a file that makes redb panic is reported as damaged.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Value};
use serde::{Deserialize, Serialize};

use super::{BACKUP_FACT, BackupError, BackupRow, overlay::Overlay, trailer::Trailer};
use crate::{
    domain::{audit::Entry, file_error::with_path, lookup::LookupHash, secret::SecretHash, time::Millis},
    store::{
        SCHEMA, StoreError, Tables,
        codec::decode,
        rows::{
            account_number, association::AssociationRow, consent::ConsentRow, invitation, read_medium,
            read_user_id, signing_key::SigningKeyRow, token,
        },
        table::{Definition, EachTable, Transaction},
        tables::{META, each_table},
    },
};

/// The page cache while a backup is read.
const CHECK_CACHE_BYTES: usize = 32 << 20;

/// What is in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The server that it is of.
    pub server_name: String,
    /// When it was made.
    pub made: Millis,
    /// The schema of its database.
    pub schema: u32,
    /// How many mails were queued when it was made. They are not in it.
    pub queued_mails: u64,
    /// The numbers of its rows. `None` if it has an earlier schema: a restore migrates and reads those rows.
    pub rows: Option<Rows>,
}

/// Numbers of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Published addresses.
    pub bindings: u64,
    /// Pending invitations.
    pub invitations: u64,
    /// Access tokens.
    pub tokens: u64,
    /// Accepted documents.
    pub consents: u64,
    /// Addresses that opted out.
    pub suppressed: u64,
    /// Entries of the audit.
    pub audit: u64,
}

/// Checks the backup in the file `path`, and says what is in it.
///
/// # Errors
/// If the file cannot be read, is no backup, or is damaged.
pub fn verify(path: &Path) -> Result<Contents, BackupError> {
    let unreadable = |error| BackupError::File(with_path(path)(error));
    let mut file = File::open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(BackupError::NotABackup(path.to_owned()));
    }
    let trailer = Trailer::read(&file).map_err(unreadable)?;
    let trailer = trailer.ok_or_else(|| BackupError::NotABackup(path.to_owned()))?;
    if !trailer.is_right(&mut file).map_err(unreadable)? {
        return Err(BackupError::damaged(path, "its bytes are not those that were written"));
    }
    read(file, &trailer, path)
}

/// Reads the database in a backup whose checksum is right.
pub(super) fn read(file: File, trailer: &Trailer, path: &Path) -> Result<Contents, BackupError> {
    let overlay = Overlay::over(file, trailer.database_len);
    // Whoever wrote the checksum may have written anything before it.
    let read = catch_unwind(AssertUnwindSafe(|| read_database(overlay)));
    let read = read.unwrap_or_else(|_| Err(StoreError::Inconsistent("its database cannot be read")));
    let contents = read.map_err(|error| BackupError::damaged(path, error.to_string()))?;
    if contents.schema > SCHEMA {
        let (path, schema) = (path.to_owned(), contents.schema);
        return Err(BackupError::NewerSchema { path, schema, known: SCHEMA });
    }
    if contents.made != trailer.made {
        return Err(BackupError::damaged(path, "it has two times at which it was made"));
    }
    Ok(contents)
}

fn read_database(overlay: Overlay) -> Result<Contents, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CHECK_CACHE_BYTES).set_check_integrity_on_open(true);
    let database = builder.create_with_backend(overlay)?;
    let transaction = database.begin_read()?;
    let meta = transaction.open(META)?;
    let fact = |name| meta.get(name)?.ok_or(StoreError::Inconsistent("the table meta lacks a fact"));
    let schema = decode(fact("schema")?.value())?;
    let server_name = decode(fact("server_name")?.value())?;
    let BackupRow { made, queued_mails } = decode(fact(BACKUP_FACT)?.value())?;
    let rows = if schema == SCHEMA { Some(read_rows(&transaction)?) } else { None };
    Ok(Contents { server_name, made, schema, queued_mails, rows })
}

fn read_rows(transaction: &ReadTransaction) -> Result<Rows, StoreError> {
    let tables = Tables::open(transaction)?;
    tables.session_key()?;
    tables.editions()?;
    for row in tables.signing_keys.iter()? {
        decode::<SigningKeyRow>(row?.1.value())?;
    }
    if tables.signing_keys.is_empty()? {
        return Err(StoreError::Inconsistent("it has no signing key"));
    }
    read_associations(&tables)?;
    read_invitations(&tables)?;
    read_accounts(&tables)?;
    read_audit(&tables)?;
    for row in tables.suppressed.iter()? {
        decode::<Millis>(row?.1.value())?;
    }
    each_table(&mut RequireEmpty(transaction))?;
    Ok(Rows {
        bindings: tables.associations.len()?,
        invitations: tables.invitations.len()?,
        tokens: tables.tokens.len()?,
        consents: tables.consents.len()?,
        suppressed: tables.suppressed.len()?,
        audit: tables.audit.len()?,
    })
}

/// An index leads to every row, and to nothing else, if it has an entry for each row and as many entries as rows.
fn require(leads: bool) -> Result<(), StoreError> {
    if leads { Ok(()) } else { Err(StoreError::Inconsistent("an index and its rows contradict each other")) }
}

fn read_associations(tables: &Tables<ReadTransaction>) -> Result<(), StoreError> {
    for row in tables.associations.iter()? {
        let (key, row) = row?;
        let (medium, text) = key.value();
        let row: AssociationRow = decode(row.value())?;
        let account = account_number(&read_user_id(&row.user_id)?);
        require(tables.account_addresses.get((account, medium, text))?.is_some())?;
        let mut is_found = false;
        let hash = LookupHash::of_canonical(read_medium(medium)?, text, tables.pepper());
        tables.index().lookup(&hash, |user_id| is_found = user_id == row.user_id)?;
        require(is_found)?;
    }
    let rows = tables.associations.len()?;
    require(tables.account_addresses.len()? == rows && tables.index().len()? == rows)
}

fn read_invitations(tables: &Tables<ReadTransaction>) -> Result<(), StoreError> {
    for row in tables.invitations.iter()? {
        let (token, row) = row?;
        let invitation = invitation::read(token.value(), row.value())?;
        let sender = account_number(&invitation.sender);
        let invited = invitation::invited_key(&invitation.invited, token.value());
        require(tables.invited.get(invited)?.is_some())?;
        require(tables.account_invitations.get((sender, token.value()))?.is_some())?;
        let by_key = tables.invitation_by_key(&invitation.ephemeral_key)?;
        require(by_key.is_some_and(|found| found.as_str() == token.value()))?;
    }
    let rows = tables.invitations.len()?;
    let indexes = [tables.invited.len()?, tables.account_invitations.len()?, tables.ephemeral_keys.len()?];
    require(indexes == [rows; 3])
}

fn read_accounts(tables: &Tables<ReadTransaction>) -> Result<(), StoreError> {
    for row in tables.tokens.iter()? {
        let (hash, row) = row?;
        let token = token::read(SecretHash(*hash.value()), row.value())?;
        require(tables.account_tokens.get((account_number(&token.owner), hash.value()))?.is_some())?;
    }
    require(tables.account_tokens.len()? == tables.tokens.len()?)?;
    for row in tables.consents.iter()? {
        let (key, row) = row?;
        read_user_id(key.value().0)?;
        decode::<ConsentRow<'_>>(row.value())?;
    }
    Ok(())
}

fn read_audit(tables: &Tables<ReadTransaction>) -> Result<(), StoreError> {
    let mut about_somebody = 0;
    for row in tables.audit.iter()? {
        let (number, row) = row?;
        if let Some(subject) = decode::<Entry>(row.value())?.subject {
            about_somebody += 1;
            require(tables.subject_audit.get((&subject, number.value()))?.is_some())?;
        }
    }
    require(tables.subject_audit.len()? == about_somebody)
}

/// Requires that a backup has no rows that it must not carry.
struct RequireEmpty<'a>(&'a ReadTransaction);

impl EachTable for RequireEmpty<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: Definition<'_, K, V>,
    ) -> Result<(), StoreError> {
        if table.is_in_backup() || self.0.open_table(table.redb())?.is_empty()? {
            return Ok(());
        }
        Err(StoreError::Inconsistent("it has rows that no backup carries"))
    }
}
