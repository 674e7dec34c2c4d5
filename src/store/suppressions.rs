//! Addresses that nothing is to be sent to, as keyed hashes, so that the list names nobody.

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
};
use crate::domain::time::Millis;

impl<T: Transaction> Tables<T> {
    /// Since when nothing is to be sent to the address that this stands for.
    pub fn suppressed_since(&self, address: &[u8; 32]) -> Result<Option<Millis>, StoreError> {
        let row = self.suppressed.get(address).map_err(StoreError::new)?;
        row.map(|row| decode(row.value())).transpose()
    }
}

impl Writes<'_> {
    /// From now on, nothing is to be sent to the address that this stands for.
    pub fn suppress(&mut self, address: &[u8; 32], now: Millis) -> Result<(), StoreError> {
        self.written += 1;
        self.tables.suppressed.insert(address, encode(&now)?.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// It may be written to again; whether it could not before.
    pub fn lift_suppression(&mut self, address: &[u8; 32]) -> Result<bool, StoreError> {
        let removed = self.tables.suppressed.remove(address).map_err(StoreError::new)?.is_some();
        self.written += u64::from(removed);
        self.removed |= removed;
        Ok(removed)
    }
}
