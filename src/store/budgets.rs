//! How much of its lookup budget everybody has used, so that a restart forgives nothing.

use redb::ReadableTable;

use super::{StoreError, Tables, Transaction, Writes};
use crate::domain::bucket::Bucket;

impl<T: Transaction> Tables<T> {
    /// Every budget that was not full when it was stored.
    pub fn budgets(&self) -> Result<Vec<(u64, Bucket)>, StoreError> {
        let rows = self.budgets.iter().map_err(StoreError::new)?;
        rows.map(|row| {
            let (key, bucket) = row.map_err(StoreError::new)?;
            Ok((key.value(), Bucket::full_at(bucket.value())))
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Stores the state of a budget.
    pub fn put_budget(&mut self, key: u64, bucket: Bucket) -> Result<(), StoreError> {
        self.written += 1;
        self.tables.budgets.insert(key, bucket.is_full_at()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets a budget, which is full.
    pub fn remove_budget(&mut self, key: u64) -> Result<(), StoreError> {
        let removed = self.tables.budgets.remove(key).map_err(StoreError::new)?.is_some();
        self.written += u64::from(removed);
        self.removed |= removed;
        Ok(())
    }
}
