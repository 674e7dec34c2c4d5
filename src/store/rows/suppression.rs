//! Addresses that opted out of messages, as keyed hashes, so that the list names nobody.

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
    /// Since when the address with this keyed hash is suppressed.
    pub fn suppressed_since(&self, address: &[u8; 32]) -> Result<Option<Millis>, StoreError> {
        self.suppressed.get(address)?.map(|row| decode(row.value())).transpose()
    }
}

impl Writes<'_> {
    /// Suppresses the address with this keyed hash.
    pub fn suppress(&mut self, address: &[u8; 32], now: Millis) -> Result<(), StoreError> {
        self.tables.suppressed.insert(address, encode(&now)?.as_slice())?;
        Ok(())
    }

    /// Lifts a suppression; whether there was one.
    pub fn lift_suppression(&mut self, address: &[u8; 32]) -> Result<bool, StoreError> {
        Ok(self.tables.suppressed.remove(address)?.is_some())
    }
}
