//! The life of a pepper: prepared, current, previous, dropped; each with its lookup index (design, section 3,
//! "Lookup index"). `ops::lookup::pepper` decides when it takes which step.

use std::{ops::Bound, time::Duration};

use redb::ReadableTable;

use super::{association::AssociationRow, read_medium};
use crate::{
    domain::{
        lookup::{LookupHash, PepperState},
        threepid::Medium,
        time::Millis,
    },
    store::{
        StoreError, Tables, Writes,
        changes::WriteTable,
        codec::{decode, encode},
        lookup_index::{Index, IndexName, PepperRow},
        table::Transaction,
    },
};

const NO_SUCH_PEPPER: StoreError = StoreError::Inconsistent("there is no such pepper");

impl<T: Transaction> Tables<T> {
    /// The index of the current pepper.
    pub fn index(&self) -> &Index<T> {
        &self.indexes.all()[0]
    }

    /// The current lookup pepper.
    pub fn pepper(&self) -> &str {
        &self.index().pepper
    }

    /// The index of every pepper, the current one first.
    pub fn peppers(&self) -> &[Index<T>] {
        self.indexes.all()
    }

    /// The index of a pepper that clients may use now.
    pub fn index_under(&self, pepper: &str, now: Millis) -> Option<&Index<T>> {
        self.peppers().iter().find(|index| index.pepper == pepper && index.state.may_be_used(now))
    }
}

/// The cursor of filling an index: the last address that was added.
#[derive(Clone)]
pub struct FillCursor(Medium, String);

impl Writes<'_> {
    /// Begins to prepare a pepper, and returns its number. New bindings are added to its index from now on;
    /// [`Writes::fill_index`] adds the older ones.
    pub fn begin_pepper(&mut self, pepper: &str, now: Millis) -> Result<u64, StoreError> {
        let last = self.peppers().iter().map(|index| index.number).max();
        let number = last.unwrap_or(0) + 1;
        let row = PepperRow { text: pepper.to_owned(), created: now, state: PepperState::Next };
        put_row(&mut self.tables.peppers, number, &row)?;
        let index = Index::open(&self.transaction, number, row)?;
        self.tables.indexes.all_mut().push(index);
        Ok(number)
    }

    /// Adds at most `limit` addresses after `cursor` to the index of the pepper with this number. Returns the
    /// cursor for the next step, or `None` after the last one. A step may be repeated.
    pub fn fill_index(
        &mut self,
        number: u64,
        cursor: Option<&FillCursor>,
        limit: usize,
    ) -> Result<Option<FillCursor>, StoreError> {
        let from = cursor.map_or(Bound::Unbounded, |FillCursor(medium, text)| {
            Bound::Excluded((medium.number(), text.as_str()))
        });
        let index = self.tables.indexes.all_mut().iter_mut().find(|index| index.number == number);
        let index = index.ok_or(NO_SUCH_PEPPER)?;
        let rows = self.tables.associations.range::<(u8, &str)>((from, Bound::Unbounded))?;
        let (mut cursor, mut filled) = (None, 0);
        for row in rows.take(limit) {
            filled += 1;
            let (key, row) = row?;
            let (medium, text) = key.value();
            let medium = read_medium(medium)?;
            let owner = encode(&decode::<AssociationRow>(row.value())?.user_id)?;
            index.insert(&LookupHash::of_canonical(medium, text, &index.pepper), &owner)?;
            cursor = Some(FillCursor(medium, text.to_owned()));
        }
        Ok(cursor.filter(|_| filled == limit))
    }

    /// Makes the prepared pepper with this number the current one. The previous one may be used until `until`.
    ///
    /// # Errors
    /// If no such pepper is prepared, since there must always be a current one.
    pub fn switch_pepper(&mut self, number: u64, now: Millis, until: Millis) -> Result<(), StoreError> {
        let is_meant = |index: &Index<_>| index.number == number && index.state == PepperState::Next;
        if !self.peppers().iter().any(is_meant) {
            return Err(NO_SUCH_PEPPER);
        }
        for index in self.tables.indexes.all_mut() {
            match index.state {
                PepperState::Current => index.state = PepperState::Previous { until },
                _ if index.number == number => {
                    (index.state, index.created) = (PepperState::Current, now);
                }
                _ => continue,
            }
            put_row(&mut self.tables.peppers, index.number, &index.row())?;
        }
        self.tables.indexes.sort();
        Ok(())
    }

    /// Lowers times that a wrong clock left in the future, so that no pepper is used for longer than it should
    /// be.
    pub fn correct_pepper_times(&mut self, now: Millis, grace: Duration) -> Result<(), StoreError> {
        let late = self.tables.indexes.all_mut().iter_mut().filter(|index| index.is_in_future(now, grace));
        for index in late {
            index.created = index.created.min(now);
            if let PepperState::Previous { until } = &mut index.state {
                *until = (*until).min(now.after(grace));
            }
            put_row(&mut self.tables.peppers, index.number, &index.row())?;
        }
        Ok(())
    }

    /// Drops the peppers whose grace period has ended, with their indexes. Returns whether there were any.
    pub fn drop_peppers(&mut self, now: Millis) -> Result<bool, StoreError> {
        let over = self.peppers().iter().filter(|index| index.state.is_over(now));
        let over: Vec<u64> = over.map(|index| index.number).collect();
        over.iter().try_for_each(|number| self.drop_pepper(*number))?;
        Ok(!over.is_empty())
    }

    /// Drops a pepper that is not the current one, with its index.
    pub fn drop_pepper(&mut self, number: u64) -> Result<(), StoreError> {
        if self.index().number == number {
            return Err(StoreError::Inconsistent("the current pepper cannot be dropped"));
        }
        self.tables.peppers.remove(number)?;
        // An open table cannot be deleted, so drop the index first.
        self.tables.indexes.all_mut().retain(|index| index.number != number);
        self.transaction.delete(IndexName::of(number).definition())
    }
}

fn put_row(
    peppers: &mut WriteTable<'_, u64, &'static [u8]>,
    number: u64,
    row: &PepperRow,
) -> Result<(), StoreError> {
    peppers.insert(number, encode(row)?.as_slice()).map(drop)
}
