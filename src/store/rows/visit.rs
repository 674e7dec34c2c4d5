//! Visits of people to their own pages, found by the hash of a secret that only the visitor has, and by the
//! address.

use std::ops::Bound;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        secret::SecretHash,
        threepid::{Address, Medium},
        time::Millis,
        visit::{Stage, Visit},
    },
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `visits`.
#[derive(Debug, Serialize, Deserialize)]
pub struct VisitRow {
    medium: Medium,
    address: String,
    stage: Stage,
    until: Millis,
}

pub(in crate::store) fn read(row: &[u8]) -> Result<Visit, StoreError> {
    let VisitRow { medium, address, stage, until } = decode(row)?;
    Ok(Visit { address: Address::kept(medium, &address), stage, until })
}

impl<T: Transaction> Tables<T> {
    /// The visit with this secret.
    pub fn visit(&self, secret: SecretHash) -> Result<Option<Visit>, StoreError> {
        self.visits.get(&secret.0)?.map(|row| read(row.value())).transpose()
    }

    /// The visits of the owner of an address.
    pub fn visits_of(&self, address: &Address) -> Result<Vec<(SecretHash, Visit)>, StoreError> {
        let (medium, text) = (address.medium().number(), address.as_str());
        let mut visits = Vec::new();
        for row in self.address_visits.range((medium, text, &[0; 32])..=(medium, text, &[0xff; 32]))? {
            let secret = SecretHash(*row?.0.value().2);
            visits.extend(self.visit(secret)?.map(|visit| (secret, visit)));
        }
        Ok(visits)
    }
}

impl Scan<'_> {
    /// At most `limit` visits after `after`, in the order of their hashes.
    pub fn visits_after(
        &self,
        after: Option<SecretHash>,
        limit: usize,
    ) -> Result<Vec<(SecretHash, Visit)>, StoreError> {
        let from = after.as_ref().map_or(Bound::Unbounded, |hash| Bound::Excluded(&hash.0));
        let rows = self.visits.range::<&[u8; 32]>((from, Bound::Unbounded))?.take(limit);
        rows.map(|row| {
            let (secret, row) = row?;
            Ok((SecretHash(*secret.value()), read(row.value())?))
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Stores a visit.
    pub fn put_visit(&mut self, secret: SecretHash, visit: &Visit) -> Result<(), StoreError> {
        let Visit { address, stage, until } = visit;
        let (medium, text) = (address.medium(), address.as_str());
        let row = encode(&VisitRow { medium, address: text.to_owned(), stage: *stage, until: *until })?;
        self.tables.visits.insert(&secret.0, row.as_slice())?;
        self.tables.address_visits.insert((medium.number(), text, &secret.0), ())?;
        Ok(())
    }

    /// Removes a visit. Returns whether there was one.
    pub fn remove_visit(&mut self, secret: SecretHash) -> Result<bool, StoreError> {
        let Some(Visit { address, .. }) = self.visit(secret)? else { return Ok(false) };
        self.tables.visits.remove(&secret.0)?;
        let key = (address.medium().number(), address.as_str(), &secret.0);
        self.tables.address_visits.remove(key)?;
        Ok(true)
    }
}
