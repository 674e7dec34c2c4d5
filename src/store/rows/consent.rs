//! Consents: which version of each document an account accepted.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::read_user_id;
use crate::{
    domain::{ids::UserId, time::Millis},
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `consents`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConsentRow<'a> {
    pub version: &'a str,
    pub accepted: Millis,
}

/// A document that an account has accepted.
pub struct AcceptedDocument {
    /// The ID of the document.
    pub document: String,
    /// Its version.
    pub version: String,
    /// When the account accepted it.
    pub accepted: Millis,
}

impl<T: Transaction> Tables<T> {
    /// Whether the account's latest accepted version of the document is one of these.
    pub fn has_accepted(
        &self,
        user: &UserId,
        document: &str,
        versions: &[impl AsRef<str>],
    ) -> Result<bool, StoreError> {
        let Some(row) = self.consents.get((user.as_str(), document))? else { return Ok(false) };
        let accepted = decode::<ConsentRow<'_>>(row.value())?.version;
        Ok(versions.iter().any(|version| version.as_ref() == accepted))
    }

    /// The documents that an account has accepted.
    pub fn consents_of(&self, user: &UserId) -> Result<Vec<AcceptedDocument>, StoreError> {
        let mut consents = Vec::new();
        for row in self.consents.range((user.as_str(), "")..)? {
            let (key, row) = row?;
            let (owner, document) = key.value();
            if owner != user.as_str() {
                break;
            }
            let ConsentRow { version, accepted } = decode(row.value())?;
            let (document, version) = (document.to_owned(), version.to_owned());
            consents.push(AcceptedDocument { document, version, accepted });
        }
        Ok(consents)
    }
}

impl Scan<'_> {
    /// At most `limit` accounts after `after` that have accepted a document.
    pub fn consenting_after(&self, after: Option<&UserId>, limit: usize) -> Result<Vec<UserId>, StoreError> {
        let mut users: Vec<UserId> = Vec::new();
        // No document has an ID that sorts after this character.
        let from = after.map_or(("", ""), |user| (user.as_str(), "\u{10ffff}"));
        for row in self.consents.range(from..)? {
            let (key, _) = row?;
            if users.last().is_none_or(|last| last.as_str() != key.value().0) {
                if users.len() == limit {
                    break;
                }
                users.push(read_user_id(key.value().0)?);
            }
        }
        Ok(users)
    }
}

impl Writes<'_> {
    /// Stores that an account accepted a version of a document.
    pub fn put_consent(
        &mut self,
        user: &UserId,
        document: &str,
        version: &str,
        now: Millis,
    ) -> Result<(), StoreError> {
        let row = encode(&ConsentRow { version, accepted: now })?;
        self.tables.consents.insert((user.as_str(), document), row.as_slice())?;
        Ok(())
    }

    /// Removes the consents of an account. Returns how many there were.
    pub fn remove_consents(&mut self, user: &UserId) -> Result<usize, StoreError> {
        let consents = self.consents_of(user)?;
        for consent in &consents {
            self.tables.consents.remove((user.as_str(), consent.document.as_str()))?;
        }
        Ok(consents.len())
    }
}
