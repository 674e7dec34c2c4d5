//! The published editions of the privacy notice with their texts; none is ever removed.

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    rows::{NoticeRow, edition},
};
use crate::domain::edition::{Edition, Texts};

impl<T: Transaction> Tables<T> {
    /// Every edition, the oldest first.
    pub fn editions(&self) -> Result<Vec<Edition>, StoreError> {
        let rows = self.notices.iter().map_err(StoreError::new)?;
        rows.map(|row| {
            let (number, row) = row.map_err(StoreError::new)?;
            edition(number.value(), decode(row.value())?)
        })
        .collect()
    }

    /// The texts of an edition; none if there is no such edition.
    pub fn edition_texts(&self, number: u64) -> Result<Texts, StoreError> {
        let row = self.notices.get(number).map_err(StoreError::new)?;
        let row = row.map(|row| decode::<NoticeRow>(row.value())).transpose()?;
        Ok(row.map_or_else(Texts::new, |row| row.texts))
    }
}

impl Writes<'_> {
    /// Adds an edition.
    pub fn put_edition(&mut self, edition: &Edition, texts: &Texts) -> Result<(), StoreError> {
        self.written += 1;
        let row = encode(&NoticeRow::of(edition, texts)?)?;
        self.tables.notices.insert(edition.number, row.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }
}
