//! Signing keys: the current one and the retired ones. Retired keys stay, since rooms check old signatures for
//! months.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{secret::Key32, time::Millis},
    store::{
        StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `signing_keys`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SigningKeyRow {
    pub seed: Key32,
    pub created: Millis,
}

impl<T: Transaction> Tables<T> {
    /// Every signing key with its identifier, the current one first.
    pub fn signing_keys(&self) -> Result<Vec<(String, Key32)>, StoreError> {
        let mut keys = Vec::new();
        for row in self.signing_keys.iter()? {
            let (id, row) = row?;
            let SigningKeyRow { seed, created } = decode(row.value())?;
            keys.push((created, id.value().to_owned(), seed));
        }
        keys.sort_by_key(|(created, ..)| std::cmp::Reverse(*created));
        Ok(keys.into_iter().map(|(_, id, seed)| (id, seed)).collect())
    }
}

impl Writes<'_> {
    /// Replaces every signing key by this one. No signature of theirs may be in use.
    pub fn replace_signing_keys(&mut self, id: &str, seed: &Key32, now: Millis) -> Result<(), StoreError> {
        self.tables.signing_keys.retain(|_, _| false)?;
        let row = encode(&SigningKeyRow { seed: seed.clone(), created: now })?;
        self.tables.signing_keys.insert(id, row.as_slice())?;
        Ok(())
    }
}
