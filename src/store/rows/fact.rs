//! Facts about the database itself, and the number of rows in some tables.

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{secret::Key32, time::Millis},
    store::{
        StoreError, Tables, Writes,
        backup::BACKUP_FACT,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// The numbers of rows of some tables.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Published addresses.
    pub associations: u64,
    /// Access tokens.
    pub tokens: u64,
    /// Validation sessions.
    pub sessions: u64,
    /// Accepted documents.
    pub consents: u64,
    /// Addresses that opted out.
    pub suppressed: u64,
    /// Lookup budgets that are not full.
    pub budgets: u64,
    /// Days with a count of messages to phones.
    pub sms_days: u64,
    /// Days with a count of invitation mails.
    pub invite_days: u64,
}

/// When the data of another identity server was imported, and the SHA-256 of the database that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The time of the import.
    pub at: Millis,
    /// The hash of the other server's database.
    pub source: [u8; 32],
}

impl<T: Transaction> Tables<T> {
    /// The key of the hashes of session tokens and index entries.
    pub fn session_key(&self) -> Result<Key32, StoreError> {
        let row = self.meta.get("session_key")?;
        let row = row.ok_or(StoreError::Inconsistent("the session key is missing"))?;
        decode(row.value())
    }

    /// Whether the file may hold removed or uncommitted bytes since the last rewrite.
    pub fn has_removed(&self) -> Result<bool, StoreError> {
        Ok(self.removed_since()?.is_some())
    }

    /// The earliest time at which a row in the file can have been removed: the start of the round of retention
    /// before the removal. `None` if nothing was removed.
    pub fn removed_since(&self) -> Result<Option<Millis>, StoreError> {
        self.time("removed")
    }

    /// When the last round of retention began.
    pub fn last_round(&self) -> Result<Option<Millis>, StoreError> {
        self.time("round")
    }

    /// When the last round of retention that also purged tokens and consents began.
    pub fn last_round_of_accounts(&self) -> Result<Option<Millis>, StoreError> {
        self.time("accounts_round")
    }

    /// When the file was last rewritten.
    pub fn rewritten(&self) -> Result<Option<Millis>, StoreError> {
        self.time("rewritten")
    }

    /// When the last backup was made.
    pub fn backed_up(&self) -> Result<Option<Millis>, StoreError> {
        self.time("backed_up")
    }

    /// The import that the data began with, if there was one.
    pub fn imported(&self) -> Result<Option<Imported>, StoreError> {
        self.meta.get("imported")?.map(|row| decode(row.value())).transpose()
    }

    /// Whether the server has been used: there are rows about people, or entries of the audit, which stay for a year
    /// after the last one.
    pub fn has_served(&self) -> Result<bool, StoreError> {
        Ok(!(self.tokens.is_empty()?
            && self.consents.is_empty()?
            && self.sessions.is_empty()?
            && self.associations.is_empty()?
            && self.invitations.is_empty()?
            && self.outbox.is_empty()?
            && self.visits.is_empty()?
            && self.suppressed.is_empty()?
            && self.audit.is_empty()?))
    }

    fn time(&self, fact: &str) -> Result<Option<Millis>, StoreError> {
        self.meta.get(fact)?.map(|row| decode(row.value())).transpose()
    }

    /// The numbers of rows of some tables.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        Ok(Counts {
            associations: self.associations.len()?,
            tokens: self.tokens.len()?,
            sessions: self.sessions.len()?,
            consents: self.consents.len()?,
            suppressed: self.suppressed.len()?,
            budgets: self.budgets.len()?,
            sms_days: self.sms_sent.len()?,
            invite_days: self.invites_sent.len()?,
        })
    }
}

impl Writes<'_> {
    /// Stores when a round of retention began.
    pub fn put_round(&mut self, begun: Millis) -> Result<(), StoreError> {
        self.put_time("round", begun)
    }

    /// Stores when a round of retention that also purges tokens and consents began.
    pub fn put_round_of_accounts(&mut self, begun: Millis) -> Result<(), StoreError> {
        self.put_time("accounts_round", begun)
    }

    /// Stores when a backup was made.
    pub fn put_backed_up(&mut self, made: Millis) -> Result<(), StoreError> {
        self.put_time("backed_up", made)
    }

    /// Removes what a backup says of itself, because this is a database again.
    pub fn forget_backup(&mut self) -> Result<(), StoreError> {
        self.tables.meta.remove(BACKUP_FACT).map(drop)
    }

    /// Records that the file may hold removed bytes, unless that is recorded already.
    pub(in crate::store) fn put_removed(&mut self) -> Result<(), StoreError> {
        if self.has_removed()? {
            return Ok(());
        }
        // A removal does not know the time, so use the start of the last round: it is never later.
        let since = self.last_round()?.unwrap_or(Millis(0));
        self.put_time("removed", since)
    }

    /// Records an import.
    pub fn put_imported(&mut self, imported: Imported) -> Result<(), StoreError> {
        self.tables.meta.insert("imported", encode(&imported)?.as_slice())?;
        Ok(())
    }

    fn put_time(&mut self, fact: &str, time: Millis) -> Result<(), StoreError> {
        self.tables.meta.insert(fact, encode(&time)?.as_slice())?;
        Ok(())
    }
}
