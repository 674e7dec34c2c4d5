//! Accounts: their access tokens, each found by its hash and by its account, and the documents they
//! have accepted.

use std::ops::Bound;

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    rows::{ConsentRow, TokenRow, user_id},
};
use crate::domain::{
    ids::{Token, UserId},
    secret::{SecretHash, sha256},
    time::Millis,
};

/// A short stand-in for an account in keys of the store. Two accounts may share one, so what it
/// leads to says whose it is.
pub(super) fn account_number(user: &UserId) -> u64 {
    let hash = sha256(user.as_str().as_bytes());
    u64::from_be_bytes(hash[..8].try_into().expect("32 bytes have 8"))
}

/// An access token as it is stored.
pub struct StoredToken {
    /// SHA-256 of the token.
    pub hash: SecretHash,
    /// Whose it is.
    pub owner: UserId,
    /// When it was given out.
    pub created: Millis,
    /// The beginning of the UTC day on which it was last used.
    pub used: Millis,
}

impl StoredToken {
    /// The latest moment at which it can have been used last: the end of that day.
    pub fn last_use(&self) -> Millis {
        self.used.end_of_day()
    }
}

/// A document that an account has accepted.
pub struct Consent {
    /// The document.
    pub document: String,
    /// The version of it.
    pub version: String,
    /// When.
    pub accepted: Millis,
}

impl<T: Transaction> Tables<T> {
    /// The account that an access token belongs to.
    pub fn token_owner(&self, token: &Token) -> Result<Option<UserId>, StoreError> {
        Ok(self.token(SecretHash::of(token.as_str()))?.map(|token| token.owner))
    }

    /// The access token with this hash.
    pub fn token(&self, hash: SecretHash) -> Result<Option<StoredToken>, StoreError> {
        let row = self.tokens.get(&hash.0).map_err(StoreError::new)?;
        row.map(|row| read(hash, row.value())).transpose()
    }

    /// Whether there is an access token with this hash.
    pub fn has_token(&self, hash: SecretHash) -> Result<bool, StoreError> {
        Ok(self.tokens.get(&hash.0).map_err(StoreError::new)?.is_some())
    }

    /// Every access token of an account.
    pub fn tokens_of(&self, user: &UserId) -> Result<Vec<StoredToken>, StoreError> {
        let number = account_number(user);
        let mut tokens = Vec::new();
        let range = (number, &[0; 32])..=(number, &[0xff; 32]);
        for row in self.account_tokens.range(range).map_err(StoreError::new)? {
            let (key, ()) = row.map(|(key, value)| (key, value.value())).map_err(StoreError::new)?;
            tokens.extend(self.token(SecretHash(*key.value().1))?.filter(|token| token.owner == *user));
        }
        Ok(tokens)
    }

    /// At most `most` access tokens, those after `after` in the order of their hashes.
    pub fn tokens_after(
        &self,
        after: Option<SecretHash>,
        most: usize,
    ) -> Result<Vec<StoredToken>, StoreError> {
        let from = after.as_ref().map_or(Bound::Unbounded, |hash| Bound::Excluded(&hash.0));
        let rows = self.tokens.range::<&[u8; 32]>((from, Bound::Unbounded)).map_err(StoreError::new)?;
        rows.take(most)
            .map(|row| {
                let (key, row) = row.map_err(StoreError::new)?;
                read(SecretHash(*key.value()), row.value())
            })
            .collect()
    }

    /// Whether an account accepted one of these versions of a document, and no other one since.
    pub fn has_accepted(
        &self,
        user: &UserId,
        document: &str,
        versions: &[impl AsRef<str>],
    ) -> Result<bool, StoreError> {
        let row = self.consents.get((user.as_str(), document)).map_err(StoreError::new)?;
        let Some(row) = row else { return Ok(false) };
        let accepted = decode::<ConsentRow<'_>>(row.value())?.version;
        Ok(versions.iter().any(|version| version.as_ref() == accepted))
    }

    /// Every document that an account has accepted.
    pub fn consents_of(&self, user: &UserId) -> Result<Vec<Consent>, StoreError> {
        let mut consents = Vec::new();
        for row in self.consents.range((user.as_str(), "")..).map_err(StoreError::new)? {
            let (key, row) = row.map_err(StoreError::new)?;
            let (owner, document) = key.value();
            if owner != user.as_str() {
                break;
            }
            let ConsentRow { version, accepted } = decode(row.value())?;
            consents.push(Consent { document: document.to_owned(), version: version.to_owned(), accepted });
        }
        Ok(consents)
    }

    /// At most `most` accounts that have accepted a document, those after `after`.
    pub fn consenting_after(&self, after: Option<&UserId>, most: usize) -> Result<Vec<UserId>, StoreError> {
        let mut users: Vec<UserId> = Vec::new();
        // No document has a name that sorts after this character.
        let from = after.map_or(("", ""), |user| (user.as_str(), "\u{10ffff}"));
        for row in self.consents.range(from..).map_err(StoreError::new)? {
            let (key, _) = row.map_err(StoreError::new)?;
            if users.last().is_none_or(|last| last.as_str() != key.value().0) {
                if users.len() == most {
                    break;
                }
                users.push(user_id(key.value().0)?);
            }
        }
        Ok(users)
    }
}

/// An access token as it is stored.
pub(super) fn read(hash: SecretHash, row: &[u8]) -> Result<StoredToken, StoreError> {
    let TokenRow { user_id: owner, created, used } = decode(row)?;
    Ok(StoredToken { hash, owner: user_id(owner)?, created, used })
}

impl Writes<'_> {
    /// Stores an access token by its hash.
    pub fn put_token(&mut self, token: &Token, owner: &UserId, now: Millis) -> Result<(), StoreError> {
        let hash = SecretHash::of(token.as_str());
        self.put_stored_token(&StoredToken { hash, owner: owner.clone(), created: now, used: now })
    }

    /// Stores an access token whose hash is known; of when it was used, the day only.
    pub fn put_stored_token(&mut self, token: &StoredToken) -> Result<(), StoreError> {
        self.written += 1;
        let StoredToken { hash, owner, created, used } = token;
        let row =
            encode(&TokenRow { user_id: owner.as_str(), created: *created, used: used.start_of_day() })?;
        self.tables.tokens.insert(&hash.0, row.as_slice()).map_err(StoreError::new)?;
        let key = (account_number(owner), &hash.0);
        self.tables.account_tokens.insert(key, ()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets an access token.
    pub fn remove_token(&mut self, hash: SecretHash) -> Result<(), StoreError> {
        let Some(StoredToken { owner, .. }) = self.token(hash)? else { return Ok(()) };
        self.written += 1;
        self.removed = true;
        self.revoked = true;
        self.tables.tokens.remove(&hash.0).map_err(StoreError::new)?;
        let key = (account_number(&owner), &hash.0);
        self.tables.account_tokens.remove(key).map_err(StoreError::new)?;
        Ok(())
    }

    /// Notes that an account accepted a version of a document.
    pub fn put_consent(
        &mut self,
        user: &UserId,
        document: &str,
        version: &str,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.written += 1;
        let row = encode(&ConsentRow { version, accepted: now })?;
        let key = (user.as_str(), document);
        let before = self.tables.consents.insert(key, row.as_slice()).map_err(StoreError::new)?;
        self.revoked |= before.is_some();
        Ok(())
    }

    /// Forgets which documents an account has accepted; how many there were.
    pub fn remove_consents(&mut self, user: &UserId) -> Result<usize, StoreError> {
        let consents = self.consents_of(user)?;
        for consent in &consents {
            self.written += 1;
            self.removed = true;
            self.revoked = true;
            let key = (user.as_str(), consent.document.as_str());
            self.tables.consents.remove(key).map_err(StoreError::new)?;
        }
        Ok(consents.len())
    }
}
