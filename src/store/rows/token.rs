//! Access tokens, found by their hash and by their account.

use std::ops::Bound;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{account_number, read_user_id};
use crate::{
    domain::{
        ids::{Token, UserId},
        secret::SecretHash,
        time::Millis,
    },
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `tokens`.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenRow<'a> {
    pub user_id: &'a str,
    pub created: Millis,
    pub used: Millis,
}

/// An access token as it is stored.
pub struct StoredToken {
    /// SHA-256 of the token.
    pub hash: SecretHash,
    /// The account it belongs to.
    pub owner: UserId,
    /// When it was issued.
    pub created: Millis,
    /// The start of the UTC day of its last use.
    pub used: Millis,
}

impl StoredToken {
    /// The latest time at which it can have been used: the end of that day.
    pub fn last_use(&self) -> Millis {
        self.used.end_of_day()
    }
}

impl<T: Transaction> Tables<T> {
    /// The account of an access token.
    pub fn token_owner(&self, token: &Token) -> Result<Option<UserId>, StoreError> {
        Ok(self.token(SecretHash::of(token.as_str()))?.map(|token| token.owner))
    }

    /// The access token with this hash.
    pub fn token(&self, hash: SecretHash) -> Result<Option<StoredToken>, StoreError> {
        let row = self.tokens.get(&hash.0)?;
        row.map(|row| read(hash, row.value())).transpose()
    }

    /// Whether there is an access token with this hash.
    pub fn has_token(&self, hash: SecretHash) -> Result<bool, StoreError> {
        Ok(self.tokens.get(&hash.0)?.is_some())
    }

    /// The access tokens of an account.
    pub fn tokens_of(&self, user: &UserId) -> Result<Vec<StoredToken>, StoreError> {
        let number = account_number(user);
        let mut tokens = Vec::new();
        for row in self.account_tokens.range((number, &[0; 32])..=(number, &[0xff; 32]))? {
            let hash = SecretHash(*row?.0.value().1);
            tokens.extend(self.token(hash)?.filter(|token| token.owner == *user));
        }
        Ok(tokens)
    }
}

impl Scan<'_> {
    /// At most `limit` access tokens after `after`, in the order of their hashes.
    pub fn tokens_after(
        &self,
        after: Option<SecretHash>,
        limit: usize,
    ) -> Result<Vec<StoredToken>, StoreError> {
        let from = after.as_ref().map_or(Bound::Unbounded, |hash| Bound::Excluded(&hash.0));
        let rows = self.tokens.range::<&[u8; 32]>((from, Bound::Unbounded))?.take(limit);
        rows.map(|row| {
            let (hash, row) = row?;
            read(SecretHash(*hash.value()), row.value())
        })
        .collect()
    }
}

pub(in crate::store) fn read(hash: SecretHash, row: &[u8]) -> Result<StoredToken, StoreError> {
    let TokenRow { user_id, created, used } = decode(row)?;
    Ok(StoredToken { hash, owner: read_user_id(user_id)?, created, used })
}

impl Writes<'_> {
    /// Stores a new access token.
    pub fn put_token(&mut self, token: &Token, owner: &UserId, now: Millis) -> Result<(), StoreError> {
        let hash = SecretHash::of(token.as_str());
        self.put_stored_token(&StoredToken { hash, owner: owner.clone(), created: now, used: now })
    }

    /// Stores an access token by its hash. Only the day of its last use is stored.
    pub fn put_stored_token(&mut self, token: &StoredToken) -> Result<(), StoreError> {
        let StoredToken { hash, owner, created, used } = token;
        let row =
            encode(&TokenRow { user_id: owner.as_str(), created: *created, used: used.start_of_day() })?;
        self.tables.tokens.insert(&hash.0, row.as_slice())?;
        self.tables.account_tokens.insert((account_number(owner), &hash.0), ())?;
        Ok(())
    }

    /// Revokes an access token. Returns whether there was one.
    pub fn remove_token(&mut self, hash: SecretHash) -> Result<bool, StoreError> {
        let Some(StoredToken { owner, .. }) = self.token(hash)? else { return Ok(false) };
        self.tables.tokens.remove(&hash.0)?;
        self.tables.account_tokens.remove((account_number(&owner), &hash.0))?;
        Ok(true)
    }
}
