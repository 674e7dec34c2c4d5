//! The audit: entries in the order in which they were written, found by the person that they are about.

use std::ops::Bound;

use redb::ReadableTable;

use crate::{
    domain::audit::Entry,
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

impl<T: Transaction> Tables<T> {
    /// The entry with this number.
    pub fn audit_entry(&self, number: u64) -> Result<Option<Entry>, StoreError> {
        self.audit.get(number)?.map(|row| decode(row.value())).transpose()
    }

    /// The entries about a subject, the oldest first.
    pub fn audit_about(&self, subject: &[u8; 32]) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for row in self.subject_audit.range((subject, 0)..=(subject, u64::MAX))? {
            entries.extend(self.audit_entry(row?.0.value().1)?);
        }
        Ok(entries)
    }
}

impl Scan<'_> {
    /// At most `limit` entries after number `after`, the oldest first.
    pub fn audit_after(&self, after: Option<u64>, limit: usize) -> Result<Vec<(u64, Entry)>, StoreError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.audit.range::<u64>((from, Bound::Unbounded))?.take(limit);
        rows.map(|row| {
            let (number, row) = row?;
            Ok((number.value(), decode(row.value())?))
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Adds an entry.
    pub fn put_audit(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let number = self.tables.audit.last()?.map_or(0, |(number, _)| number.value() + 1);
        self.tables.audit.insert(number, encode(entry)?.as_slice())?;
        if let Some(subject) = &entry.subject {
            self.tables.subject_audit.insert((subject, number), ())?;
        }
        Ok(())
    }

    /// Replaces an entry by one about the same subject.
    pub fn replace_audit(&mut self, number: u64, entry: &Entry) -> Result<(), StoreError> {
        self.tables.audit.insert(number, encode(entry)?.as_slice())?;
        Ok(())
    }

    /// Removes an entry. Returns whether there was one.
    pub fn remove_audit(&mut self, number: u64) -> Result<bool, StoreError> {
        let Some(entry) = self.audit_entry(number)? else { return Ok(false) };
        self.tables.audit.remove(number)?;
        if let Some(subject) = &entry.subject {
            self.tables.subject_audit.remove((subject, number))?;
        }
        Ok(true)
    }
}
