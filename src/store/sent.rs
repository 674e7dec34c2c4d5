//! How much has left on a day, for the ceilings that no restart forgets. Only the last day is kept.

use redb::{ReadableTable, Table};

use super::{StoreError, Tables, Transaction, Writes};

impl<T: Transaction> Tables<T> {
    /// How many messages went to telephones on this day.
    pub fn sms_sent(&self, day: u64) -> Result<u32, StoreError> {
        sent(&self.sms_sent, day)
    }

    /// How many invitations were to be mailed on this day.
    pub fn invites_sent(&self, day: u64) -> Result<u32, StoreError> {
        sent(&self.invites_sent, day)
    }
}

impl Writes<'_> {
    /// Counts a message to a telephone.
    pub fn count_sms(&mut self, day: u64) -> Result<(), StoreError> {
        self.written += 1;
        count(&mut self.tables.sms_sent, day)
    }

    /// Counts an invitation that is to be mailed.
    pub fn count_invite(&mut self, day: u64) -> Result<(), StoreError> {
        self.written += 1;
        count(&mut self.tables.invites_sent, day)
    }
}

fn sent(table: &impl ReadableTable<u64, u32>, day: u64) -> Result<u32, StoreError> {
    Ok(table.get(day).map_err(StoreError::new)?.map_or(0, |count| count.value()))
}

fn count(table: &mut Table<'_, u64, u32>, day: u64) -> Result<(), StoreError> {
    let count = sent(table, day)?.saturating_add(1);
    table.retain(|other, _| other == day).map_err(StoreError::new)?;
    table.insert(day, count).map_err(StoreError::new)?;
    Ok(())
}
