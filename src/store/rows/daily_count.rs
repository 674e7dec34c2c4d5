//! How many messages were sent on a day, for the daily ceilings: a restart must not reset them. Only the last
//! day is kept.

use redb::ReadableTable;

use crate::store::{StoreError, Tables, Writes, changes::WriteTable, table::Transaction};

impl<T: Transaction> Tables<T> {
    /// The number of messages to phones on this day.
    pub fn sms_sent(&self, day: u64) -> Result<u32, StoreError> {
        count_of(&*self.sms_sent, day)
    }

    /// The number of invitation mails that were queued on this day.
    pub fn invites_sent(&self, day: u64) -> Result<u32, StoreError> {
        count_of(&*self.invites_sent, day)
    }
}

impl Writes<'_> {
    /// Counts a message to a phone.
    pub fn count_sms(&mut self, day: u64) -> Result<(), StoreError> {
        count(&mut self.tables.sms_sent, day)
    }

    /// Counts an invitation mail.
    pub fn count_invite(&mut self, day: u64) -> Result<(), StoreError> {
        count(&mut self.tables.invites_sent, day)
    }
}

fn count_of(table: &impl ReadableTable<u64, u32>, day: u64) -> Result<u32, StoreError> {
    Ok(table.get(day)?.map_or(0, |count| count.value()))
}

fn count(table: &mut WriteTable<'_, u64, u32>, day: u64) -> Result<(), StoreError> {
    let count = count_of(&**table, day)?.saturating_add(1);
    table.retain(|other, _| other == day)?;
    table.insert(day, count)?;
    Ok(())
}
