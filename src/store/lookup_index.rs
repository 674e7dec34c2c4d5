//! Lookup indexes: one table of lookup hashes for each pepper (design, section 3, "Lookup index").
//!
//! During a rotation and its grace period there are several, and every change is written to all of them.
//! `rows::pepper` has the life of a pepper.

use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use super::{
    StoreError,
    changes::Writing,
    codec::{decode, encode},
    table::{Definition, EachTable, Holds, InBackup, Transaction},
};
use crate::domain::{
    ids::UserId,
    lookup::{LookupHash, PepperState},
    threepid::Address,
    time::Millis,
};

type Bytes = &'static [u8];

/// The name of the lookup index of a pepper.
pub(super) struct IndexName(String);

impl IndexName {
    pub(super) fn of(pepper: u64) -> Self {
        Self(format!("lookup_{pepper}"))
    }

    /// Lookup hash -> Matrix ID.
    pub(super) fn definition(&self) -> Definition<'_, &'static [u8; 32], Bytes> {
        Definition::new(&self.0, Holds::People, InBackup::Yes)
    }
}

/// A value of `peppers`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PepperRow {
    pub text: String,
    pub created: Millis,
    pub state: PepperState,
}

/// A pepper and its lookup index.
pub struct Index<T: Transaction> {
    /// Its number. A later pepper has a greater one.
    pub number: u64,
    /// The pepper.
    pub pepper: String,
    /// Whether it is being prepared, current, or previous.
    pub state: PepperState,
    /// When it became current. Before that, when its preparation began.
    pub created: Millis,
    table: T::Open<&'static [u8; 32], Bytes>,
}

impl<T: Transaction> Index<T> {
    /// Calls `found` with the Matrix ID of a lookup hash, if there is one.
    pub fn lookup(&self, hash: &LookupHash, found: impl FnOnce(&str)) -> Result<(), StoreError> {
        if let Some(row) = self.table.get(&hash.0)? {
            found(decode(row.value())?);
        }
        Ok(())
    }

    /// Whether one of its times is further ahead than possible, because the clock was set back.
    pub fn is_in_future(&self, now: Millis, grace: Duration) -> bool {
        let ends_late = match self.state {
            PepperState::Previous { until } => until > now.after(grace),
            PepperState::Next | PepperState::Current => false,
        };
        self.created > now || ends_late
    }

    /// The number of addresses in it.
    pub fn len(&self) -> Result<u64, StoreError> {
        Ok(self.table.len()?)
    }

    /// Whether it has no address.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }

    pub(super) fn row(&self) -> PepperRow {
        PepperRow { text: self.pepper.clone(), created: self.created, state: self.state }
    }

    pub(super) fn open(transaction: &T, number: u64, row: PepperRow) -> Result<Self, StoreError> {
        let PepperRow { text: pepper, created, state } = row;
        let table = transaction.open(IndexName::of(number).definition())?;
        Ok(Self { number, pepper, state, created, table })
    }
}

impl Index<Writing<'_>> {
    /// Inserts a lookup hash and the encoded Matrix ID.
    pub(super) fn insert(&mut self, hash: &LookupHash, user_id: &[u8]) -> Result<(), StoreError> {
        self.table.insert(&hash.0, user_id).map(drop)
    }
}

/// The index of the current pepper first, then those of the next and the previous peppers.
pub(super) struct Indexes<T: Transaction>(Vec<Index<T>>);

impl<T: Transaction> Indexes<T> {
    pub(super) fn open(transaction: &T, peppers: &T::Open<u64, Bytes>) -> Result<Self, StoreError> {
        let mut indexes = Vec::new();
        for row in peppers.iter()? {
            let (number, row) = row?;
            indexes.push(Index::open(transaction, number.value(), decode(row.value())?)?);
        }
        let mut indexes = Self(indexes);
        indexes.sort();
        match indexes.0.first() {
            Some(index) if index.state == PepperState::Current => Ok(indexes),
            _ => Err(StoreError::Inconsistent("the database has no current pepper")),
        }
    }

    pub(super) fn all(&self) -> &[Index<T>] {
        &self.0
    }

    pub(super) fn all_mut(&mut self) -> &mut Vec<Index<T>> {
        &mut self.0
    }

    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|index| index.state != PepperState::Current);
    }
}

impl Indexes<Writing<'_>> {
    pub(super) fn insert(&mut self, address: &Address, user: &UserId) -> Result<(), StoreError> {
        let row = encode(&user.as_str())?;
        for index in &mut self.0 {
            index.insert(&LookupHash::of(address, &index.pepper), &row)?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, address: &Address) -> Result<(), StoreError> {
        for index in &mut self.0 {
            let hash = LookupHash::of(address, &index.pepper);
            index.table.remove(&hash.0)?;
        }
        Ok(())
    }
}

/// Calls `action` with the index of every pepper in this table.
pub(super) fn each_index(
    peppers: &impl ReadableTable<u64, Bytes>,
    action: &mut impl EachTable,
) -> Result<(), StoreError> {
    for row in peppers.iter()? {
        action.table(IndexName::of(row?.0.value()).definition())?;
    }
    Ok(())
}
