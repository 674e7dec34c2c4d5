//! Visits of people who look at what is stored about their address, found by the hash of a secret
//! that only they have.

use std::ops::Bound;

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    rows::{VisitRow, address},
};
use crate::domain::{secret::SecretHash, threepid::Address, visit::Visit};

impl<T: Transaction> Tables<T> {
    /// The visit that a secret leads to.
    pub fn visit(&self, secret: SecretHash) -> Result<Option<Visit>, StoreError> {
        self.visits.get(&secret.0).map_err(StoreError::new)?.map(|row| read(row.value())).transpose()
    }

    /// At most `most` visits, those after `after` in the order of their hashes.
    pub fn visits_after(
        &self,
        after: Option<SecretHash>,
        most: usize,
    ) -> Result<Vec<(SecretHash, Visit)>, StoreError> {
        let from = after.as_ref().map_or(Bound::Unbounded, |hash| Bound::Excluded(&hash.0));
        let rows = self.visits.range::<&[u8; 32]>((from, Bound::Unbounded)).map_err(StoreError::new)?;
        rows.take(most)
            .map(|row| {
                let (key, row) = row.map_err(StoreError::new)?;
                Ok((SecretHash(*key.value()), read(row.value())?))
            })
            .collect()
    }

    /// Every visit of the owner of an address.
    pub fn visits_of(&self, address: &Address) -> Result<Vec<(SecretHash, Visit)>, StoreError> {
        let mut visits = self.visits_after(None, usize::MAX)?;
        visits.retain(|(_, visit)| visit.address == *address);
        Ok(visits)
    }
}

/// A visit as it is stored.
pub(super) fn read(row: &[u8]) -> Result<Visit, StoreError> {
    let VisitRow { medium, address: text, stage, until } = decode(row)?;
    Ok(Visit { address: address(medium, &text), stage, until })
}

impl Writes<'_> {
    /// Stores a visit.
    pub fn put_visit(&mut self, secret: SecretHash, visit: &Visit) -> Result<(), StoreError> {
        self.written += 1;
        let Visit { address, stage, until } = visit;
        let (medium, address) = (address.medium(), address.as_str().to_owned());
        let row = encode(&VisitRow { medium, address, stage: *stage, until: *until })?;
        self.tables.visits.insert(&secret.0, row.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets a visit, if it is there.
    pub fn remove_visit(&mut self, secret: SecretHash) -> Result<(), StoreError> {
        let removed = self.tables.visits.remove(&secret.0).map_err(StoreError::new)?.is_some();
        self.written += u64::from(removed);
        self.removed |= removed;
        Ok(())
    }
}
