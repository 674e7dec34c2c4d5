//! The audit: entries in the order in which they were written.

use std::ops::RangeInclusive;

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
};
use crate::domain::{audit::Entry, time::Millis};

impl<T: Transaction> Tables<T> {
    /// Every entry since a time, or of those the ones about one subject, the oldest first.
    pub fn audit_since(&self, since: Millis, subject: Option<[u8; 32]>) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for row in self.audit.iter().map_err(StoreError::new)? {
            let entry: Entry = decode(row.map_err(StoreError::new)?.1.value())?;
            let is_about = subject.is_none() || entry.subject == subject;
            entries.extend((is_about && entry.at >= since).then_some(entry));
        }
        Ok(entries)
    }
}

impl Writes<'_> {
    /// Adds an entry.
    pub fn put_audit(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.written += 1;
        let last = self.tables.audit.last().map_err(StoreError::new)?.map(|(number, _)| number.value());
        let number = last.map_or(0, |last| last + 1);
        self.tables.audit.insert(number, encode(entry)?.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets at most `most` entries that are not of this time; how many there were.
    pub fn remove_audit_outside(
        &mut self,
        time: &RangeInclusive<Millis>,
        most: usize,
    ) -> Result<usize, StoreError> {
        let mut old = Vec::new();
        for row in self.tables.audit.iter().map_err(StoreError::new)? {
            let (number, row) = row.map_err(StoreError::new)?;
            old.extend((!time.contains(&decode::<Entry>(row.value())?.at)).then(|| number.value()));
            if old.len() == most {
                break;
            }
        }
        for number in &old {
            self.written += 1;
            self.removed = true;
            self.tables.audit.remove(number).map_err(StoreError::new)?;
        }
        Ok(old.len())
    }
}
