//! Peppers, and for each the table that lookup hashes are found in (design, section 3, "Lookup
//! index").
//!
//! While a pepper is prepared or on its way out, there is more than one such table, and every
//! change is made in all of them. When that happens is decided above.

use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    rows::{AssociationRow, PepperRow, address},
    tables::lookup_table_name,
};
use crate::domain::{
    ids::UserId,
    lookup::{LookupHash, PepperState},
    threepid::{Address, Medium},
    time::Millis,
};

type Bytes = &'static [u8];

/// A pepper with the addresses that are found under it.
pub struct Index<T: Transaction> {
    /// Its number; a later pepper has a greater one.
    pub number: u64,
    /// The pepper.
    pub pepper: String,
    /// How far it is in its life.
    pub state: PepperState,
    /// When it was made.
    pub created: Millis,
    table: T::Open<&'static [u8; 32], Bytes>,
}

impl<T: Transaction> Index<T> {
    /// Calls `found` with the Matrix ID that a lookup hash leads to, if there is one.
    pub fn lookup(&self, hash: &LookupHash, found: impl FnOnce(&str)) -> Result<(), StoreError> {
        if let Some(row) = self.table.get(&hash.0).map_err(StoreError::new)? {
            found(decode(row.value())?);
        }
        Ok(())
    }

    /// How many addresses are found under it.
    pub fn len(&self) -> Result<u64, StoreError> {
        self.table.len().map_err(StoreError::new)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.len()? == 0)
    }
}

/// The index in use first, and those of the peppers before and after it.
pub(super) struct Indexes<T: Transaction>(Vec<Index<T>>);

impl<T: Transaction> Indexes<T> {
    pub(super) fn open(transaction: &T, peppers: &T::Open<u64, Bytes>) -> Result<Self, StoreError> {
        let mut indexes = Vec::new();
        for row in peppers.iter().map_err(StoreError::new)? {
            let (number, row) = row.map_err(StoreError::new)?;
            let number = number.value();
            let PepperRow { text: pepper, created, state } = decode(row.value())?;
            let table = transaction.open(TableDefinition::new(&lookup_table_name(number)))?;
            indexes.push(Index { number, pepper, state, created, table });
        }
        indexes.sort_by_key(|index| index.state != PepperState::Current);
        match indexes.first() {
            Some(index) if index.state == PepperState::Current => Ok(Self(indexes)),
            _ => Err(StoreError::new("the database has no pepper in use")),
        }
    }
}

impl<T: Transaction> Tables<T> {
    /// The index in use.
    pub fn index(&self) -> &Index<T> {
        &self.indexes.0[0]
    }

    /// The lookup pepper in use.
    pub fn pepper(&self) -> &str {
        &self.index().pepper
    }

    /// Every pepper, that in use first.
    pub fn peppers(&self) -> &[Index<T>] {
        &self.indexes.0
    }

    /// The index for a pepper that clients may use now.
    pub fn index_under(&self, pepper: &str, now: Millis) -> Option<&Index<T>> {
        self.indexes.0.iter().find(|index| index.pepper == pepper && index.state.may_be_used(now))
    }
}

impl<'txn> Indexes<&'txn WriteTransaction> {
    pub(super) fn insert(&mut self, address: &Address, user: &UserId) -> Result<(), StoreError> {
        let row = encode(&user.as_str())?;
        self.0.iter_mut().try_for_each(|index| {
            let hash = LookupHash::of(address, &index.pepper);
            index.table.insert(&hash.0, row.as_slice()).map(drop).map_err(StoreError::new)
        })
    }

    pub(super) fn remove(&mut self, address: &Address) -> Result<(), StoreError> {
        self.0.iter_mut().try_for_each(|index| {
            let hash = LookupHash::of(address, &index.pepper);
            index.table.remove(&hash.0).map(drop).map_err(StoreError::new)
        })
    }
}

/// How far the preparation of a pepper has come: the address that was worked on last.
#[derive(Clone)]
pub struct Reached(Medium, String);

impl Writes<'_> {
    /// Makes a pepper that is prepared from here on: what is published from the next transaction
    /// on is found under it too. Its number.
    pub fn begin_pepper(&mut self, pepper: &str, now: Millis) -> Result<u64, StoreError> {
        self.written += 1;
        let last = self.tables.indexes.0.iter().map(|index| index.number).max();
        let number = last.unwrap_or(0) + 1;
        let row = PepperRow { text: pepper.to_owned(), created: now, state: PepperState::Next };
        self.tables.peppers.insert(number, encode(&row)?.as_slice()).map_err(StoreError::new)?;
        Ok(number)
    }

    /// Has at most `most` addresses after `reached` found under the pepper with this number; how far
    /// that came, or `None` when nothing is left to do.
    pub fn fill_index(
        &mut self,
        number: u64,
        reached: Option<&Reached>,
        most: usize,
    ) -> Result<Option<Reached>, StoreError> {
        let from = reached.map_or(Bound::Unbounded, |Reached(medium, text)| {
            Bound::Excluded((medium.number(), text.as_str()))
        });
        let index = self.tables.indexes.0.iter_mut().find(|index| index.number == number);
        let index = index.ok_or_else(|| StoreError::new("there is no such pepper"))?;
        let range = (from, Bound::Unbounded);
        let rows = self.tables.associations.range::<(u8, &str)>(range).map_err(StoreError::new)?;
        let mut reached = None;
        self.written += 1;
        for row in rows.take(most) {
            let (key, row) = row.map_err(StoreError::new)?;
            let (medium, text) = key.value();
            let medium = Medium::from_number(medium);
            let medium = medium.ok_or_else(|| StoreError::new("a row has an unknown medium"))?;
            let hash = LookupHash::of(&address(medium, text)?, &index.pepper);
            let owner = encode(&decode::<AssociationRow>(row.value())?.user_id)?;
            insert(&mut index.table, &hash, &owner)?;
            reached = Some(Reached(medium, text.to_owned()));
        }
        Ok(reached)
    }

    /// Puts the pepper with this number in use; the one before may be used until `until`.
    pub fn switch_pepper(&mut self, number: u64, until: Millis) -> Result<(), StoreError> {
        self.written += 1;
        for index in &self.tables.indexes.0 {
            let state = match index.state {
                _ if index.number == number => PepperState::Current,
                PepperState::Current => PepperState::Previous { until },
                other => other,
            };
            let row = PepperRow { text: index.pepper.clone(), created: index.created, state };
            let row = encode(&row)?;
            self.tables.peppers.insert(index.number, row.as_slice()).map_err(StoreError::new)?;
        }
        Ok(())
    }

    /// Forgets the peppers that nobody may use any more, and what was found under them; whether
    /// there were any.
    pub fn drop_peppers(&mut self, now: Millis) -> Result<bool, StoreError> {
        let is_over = |index: &Index<_>| match index.state {
            PepperState::Previous { until } => now >= until,
            PepperState::Next | PepperState::Current => false,
        };
        let over: Vec<u64> = self.tables.indexes.0.iter().filter(|i| is_over(i)).map(|i| i.number).collect();
        // A table that is open cannot be deleted.
        self.tables.indexes.0.retain(|index| !over.contains(&index.number));
        for number in &over {
            self.written += 1;
            self.removed = true;
            self.tables.peppers.remove(number).map_err(StoreError::new)?;
            let name = lookup_table_name(*number);
            let table = TableDefinition::<&[u8; 32], Bytes>::new(&name);
            self.transaction.delete_table(table).map_err(StoreError::new)?;
        }
        Ok(!over.is_empty())
    }
}

fn insert(
    table: &mut Table<'_, &'static [u8; 32], Bytes>,
    hash: &LookupHash,
    row: &[u8],
) -> Result<(), StoreError> {
    table.insert(&hash.0, row).map(drop).map_err(StoreError::new)
}
