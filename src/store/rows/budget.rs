//! Lookup budgets that are not full, stored so that a restart does not refill them.

use redb::ReadableTable;

use crate::{
    domain::bucket::Bucket,
    store::{Scan, StoreError, Writes},
};

impl Scan<'_> {
    /// Every budget that was not full when it was stored. Their number is bounded by memory, see
    /// `ops::limits::buckets`.
    pub fn budgets(&self) -> Result<Vec<(u64, Bucket)>, StoreError> {
        let rows = self.budgets.iter()?;
        rows.map(|row| {
            let (key, full_at) = row?;
            Ok((key.value(), Bucket::full_at(full_at.value())))
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Stores the state of a budget.
    pub fn put_budget(&mut self, key: u64, bucket: Bucket) -> Result<(), StoreError> {
        self.tables.budgets.insert(key, bucket.is_full_at())?;
        Ok(())
    }

    /// Removes a budget that is full again.
    pub fn remove_budget(&mut self, key: u64) -> Result<(), StoreError> {
        self.tables.budgets.remove(key)?;
        Ok(())
    }
}
