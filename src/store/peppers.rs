//! Peppers, and for each the table that lookup hashes are found in (design, section 3, "Lookup
//! index").
//!
//! While a pepper is prepared or on its way out, there is more than one such table, and every
//! change is made in all of them. When that happens is decided above.

use std::{ops::Bound, time::Duration};

use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    rows::{AssociationRow, PepperRow},
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
    /// When it came into use; of one that is prepared, when that began.
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

    /// Whether a moment of its life lies further ahead than it can, because the clock was set back.
    pub fn is_in_future(&self, now: Millis, grace: Duration) -> bool {
        let ends_late = match self.state {
            PepperState::Previous { until } => until > now.after(grace),
            PepperState::Next | PepperState::Current => false,
        };
        self.created > now || ends_late
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
        let mut indexes = Self(indexes);
        indexes.sort();
        match indexes.0.first() {
            Some(index) if index.state == PepperState::Current => Ok(indexes),
            _ => Err(StoreError::new("the database has no pepper in use")),
        }
    }

    fn sort(&mut self) {
        self.0.sort_by_key(|index| index.state != PepperState::Current);
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

impl Indexes<&WriteTransaction> {
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
    /// Makes a pepper that is prepared from here on: what is published after this is found under it
    /// too, what was published before after [`Writes::fill_index`]. Its number.
    pub fn begin_pepper(&mut self, pepper: &str, now: Millis) -> Result<u64, StoreError> {
        self.written += 1;
        let last = self.tables.indexes.0.iter().map(|index| index.number).max();
        let number = last.unwrap_or(0) + 1;
        let table = self.transaction.open(TableDefinition::new(&lookup_table_name(number)))?;
        let (pepper, state) = (pepper.to_owned(), PepperState::Next);
        let index = Index { number, pepper, state, created: now, table };
        put_pepper(&mut self.tables.peppers, &index)?;
        self.tables.indexes.0.push(index);
        Ok(number)
    }

    /// Has at most `most` addresses after `reached` found under the pepper with this number; how far
    /// that came, or `None` when nothing is left to do. Doing it again changes nothing.
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
        let (mut reached, mut filled) = (None, 0);
        for row in rows.take(most) {
            self.written += 1;
            filled += 1;
            let (key, row) = row.map_err(StoreError::new)?;
            let (medium, text) = key.value();
            let medium = Medium::from_number(medium);
            let medium = medium.ok_or_else(|| StoreError::new("a row has an unknown medium"))?;
            let hash = LookupHash::of_canonical(medium, text, &index.pepper);
            let owner = encode(&decode::<AssociationRow>(row.value())?.user_id)?;
            insert(&mut index.table, &hash, &owner)?;
            reached = Some(Reached(medium, text.to_owned()));
        }
        Ok(reached.filter(|_| filled == most))
    }

    /// Puts the prepared pepper with this number in use from `now` on; the one before may be used
    /// until `until`.
    ///
    /// # Errors
    /// If no such pepper is prepared; there must always be one in use.
    pub fn switch_pepper(&mut self, number: u64, now: Millis, until: Millis) -> Result<(), StoreError> {
        let is_meant = |index: &Index<_>| index.number == number && index.state == PepperState::Next;
        if !self.tables.indexes.0.iter().any(is_meant) {
            return Err(StoreError::new("there is no such pepper"));
        }
        self.written += 1;
        for index in &mut self.tables.indexes.0 {
            match index.state {
                PepperState::Current => index.state = PepperState::Previous { until },
                _ if index.number == number => {
                    (index.state, index.created) = (PepperState::Current, now);
                }
                _ => continue,
            }
            put_pepper(&mut self.tables.peppers, index)?;
        }
        self.tables.indexes.sort();
        Ok(())
    }

    /// What a clock that was set back has left in the future is counted from `now` instead, so that
    /// no pepper is used for longer than it should: since when the current one is in use, and the
    /// grace of those before it.
    pub fn keep_peppers_in_time(&mut self, now: Millis, grace: Duration) -> Result<(), StoreError> {
        for index in self.tables.indexes.0.iter_mut().filter(|index| index.is_in_future(now, grace)) {
            self.written += 1;
            index.created = index.created.min(now);
            if let PepperState::Previous { until } = &mut index.state {
                *until = (*until).min(now.after(grace));
            }
            put_pepper(&mut self.tables.peppers, index)?;
        }
        Ok(())
    }

    /// Forgets the peppers that nobody may use any more, and what was found under them; whether
    /// there were any.
    pub fn drop_peppers(&mut self, now: Millis) -> Result<bool, StoreError> {
        let over = self.tables.indexes.0.iter().filter(|index| index.state.is_over(now));
        let over: Vec<u64> = over.map(|index| index.number).collect();
        over.iter().try_for_each(|number| self.drop_pepper(*number))?;
        Ok(!over.is_empty())
    }

    /// Forgets a pepper that is not in use, and what was found under it.
    pub fn drop_pepper(&mut self, number: u64) -> Result<(), StoreError> {
        if self.index().number == number {
            return Err(StoreError::new("the pepper in use cannot be forgotten"));
        }
        self.written += 1;
        self.removed = true;
        self.tables.peppers.remove(number).map_err(StoreError::new)?;
        // A table that is open cannot be deleted.
        self.tables.indexes.0.retain(|index| index.number != number);
        let name = lookup_table_name(number);
        let table = TableDefinition::<&[u8; 32], Bytes>::new(&name);
        self.transaction.delete_table(table).map(drop).map_err(StoreError::new)
    }
}

fn put_pepper<T: Transaction>(
    peppers: &mut Table<'_, u64, Bytes>,
    index: &Index<T>,
) -> Result<(), StoreError> {
    let row = PepperRow { text: index.pepper.clone(), created: index.created, state: index.state };
    peppers.insert(index.number, encode(&row)?.as_slice()).map(drop).map_err(StoreError::new)
}

fn insert(
    table: &mut Table<'_, &'static [u8; 32], Bytes>,
    hash: &LookupHash,
    row: &[u8],
) -> Result<(), StoreError> {
    table.insert(&hash.0, row).map(drop).map_err(StoreError::new)
}
