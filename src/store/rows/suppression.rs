//! Addresses that opted out of messages, as keyed hashes, so that the list cannot be read back.

use redb::ReadableTable;

use crate::{
    domain::time::Millis,
    store::{
        StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

impl<T: Transaction> Tables<T> {
    /// Since when the address with this keyed hash has opted out.
    pub fn suppressed_since(&self, address: &[u8; 32]) -> Result<Option<Millis>, StoreError> {
        self.suppressed.get(address)?.map(|row| decode(row.value())).transpose()
    }
}

impl Writes<'_> {
    /// Opts out the address with this keyed hash.
    pub fn suppress(&mut self, address: &[u8; 32], now: Millis) -> Result<(), StoreError> {
        self.tables.suppressed.insert(address, encode(&now)?.as_slice())?;
        Ok(())
    }

    /// Lifts an opt-out. Returns whether there was one.
    pub fn lift_suppression(&mut self, address: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self.tables.suppressed.remove(address)?.is_some())
    }
}
