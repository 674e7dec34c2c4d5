//! What has to leave this machine: one row for each thing, and the order in which they are due.

use std::ops::Bound;

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    invitations::parse_token,
    rows::OutboxRow,
};
use crate::domain::{
    outbox::{Kind, OutboxKey, Outgoing},
    time::Millis,
};

impl<T: Transaction> Tables<T> {
    /// A row of the outbox.
    pub fn outgoing(&self, key: &OutboxKey) -> Result<Option<Outgoing>, StoreError> {
        let row = self.outbox.get(as_row_key(key)).map_err(StoreError::new)?;
        row.map(|row| read(row.value())).transpose()
    }

    /// At most `most` rows that are due, the longest due first, those after `after` in that order:
    /// when it was due, and the row.
    pub fn due(
        &self,
        now: Millis,
        after: Option<&(Millis, OutboxKey)>,
        most: usize,
    ) -> Result<Vec<(Millis, OutboxKey)>, StoreError> {
        // The clock may have gone back.
        if after.is_some_and(|(due, _)| *due > now) {
            return Ok(Vec::new());
        }
        let from = after.map_or(Bound::Unbounded, |(due, key)| Bound::Excluded(as_due_key(key, *due)));
        let until = Bound::Excluded((now.0.saturating_add(1), 0, ""));
        let rows = self.outbox_due.range::<(u64, u8, &str)>((from, until)).map_err(StoreError::new)?;
        rows.take(most)
            .map(|row| {
                let (key, _) = row.map_err(StoreError::new)?;
                let (due, kind, token) = key.value();
                Ok((Millis(due), read_key(kind, token)?))
            })
            .collect()
    }
}

/// A row as it is stored.
pub(super) fn read(row: &[u8]) -> Result<Outgoing, StoreError> {
    decode::<OutboxRow>(row)?.try_into()
}

pub(super) fn read_key(kind: u8, token: &str) -> Result<OutboxKey, StoreError> {
    let kind = Kind::from_number(kind);
    let kind = kind.ok_or_else(|| StoreError::new("a row of the outbox has an unknown kind"))?;
    Ok(OutboxKey { kind, token: parse_token(token)? })
}

impl Writes<'_> {
    /// Stores a row, in place of the one that there was.
    pub fn put_outgoing(&mut self, key: &OutboxKey, outgoing: &Outgoing) -> Result<(), StoreError> {
        self.remove_outgoing(key)?;
        self.written += 1;
        let row = encode(&OutboxRow::from(outgoing))?;
        self.tables.outbox.insert(as_row_key(key), row.as_slice()).map_err(StoreError::new)?;
        self.tables.outbox_due.insert(as_due_key(key, outgoing.due), ()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets a row, if it is there.
    pub fn remove_outgoing(&mut self, key: &OutboxKey) -> Result<(), StoreError> {
        let row = self.tables.outbox.remove(as_row_key(key)).map_err(StoreError::new)?;
        let Some(row) = row else { return Ok(()) };
        self.written += 1;
        self.removed = true;
        let due = decode::<OutboxRow>(row.value())?.due;
        self.tables.outbox_due.remove(as_due_key(key, due)).map_err(StoreError::new)?;
        Ok(())
    }
}

fn as_row_key(key: &OutboxKey) -> (u8, &str) {
    (key.kind.number(), key.token.as_str())
}

fn as_due_key(key: &OutboxKey, due: Millis) -> (u64, u8, &str) {
    (due.0, key.kind.number(), key.token.as_str())
}
