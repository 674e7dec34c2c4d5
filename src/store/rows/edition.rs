//! The published editions of the privacy notice with their texts. None is ever removed.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        edition::{Edition, Texts},
        notice::Version,
        time::Millis,
    },
    store::{
        StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `notices`.
#[derive(Debug, Serialize, Deserialize)]
pub struct NoticeRow {
    version: Version,
    consent: Version,
    published: Millis,
    /// JSON, so that a later version with more facts can still read it.
    facts: String,
    texts: Texts,
}

impl<T: Transaction> Tables<T> {
    /// Every edition, the oldest first.
    pub fn editions(&self) -> Result<Vec<Edition>, StoreError> {
        let mut editions = Vec::new();
        for row in self.notices.iter()? {
            let (number, row) = row?;
            let NoticeRow { version, consent, published, facts, .. } = decode(row.value())?;
            let facts = serde_json::from_str(&facts).map_err(StoreError::unreadable)?;
            editions.push(Edition { number: number.value(), version, consent, published, facts });
        }
        Ok(editions)
    }

    /// The texts of an edition. Empty if there is no such edition.
    pub fn edition_texts(&self, number: u64) -> Result<Texts, StoreError> {
        let Some(row) = self.notices.get(number)? else { return Ok(Texts::new()) };
        Ok(decode::<NoticeRow>(row.value())?.texts)
    }
}

impl Writes<'_> {
    /// Adds an edition.
    pub fn put_edition(&mut self, edition: &Edition, texts: &Texts) -> Result<(), StoreError> {
        let Edition { number, version, consent, published, facts } = edition.clone();
        let facts = serde_json::to_string(&facts).map_err(StoreError::unreadable)?;
        let row = encode(&NoticeRow { version, consent, published, facts, texts: texts.clone() })?;
        self.tables.notices.insert(number, row.as_slice())?;
        Ok(())
    }
}
