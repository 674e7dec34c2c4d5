//! The outbox: the messages to send, and the order in which they are due.

use std::ops::Bound;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{read_token, read_user_id};
use crate::{
    domain::{
        invitation::Described,
        language::Language,
        outbox::{BindingChange, Kind, OutboxKey, Outgoing, OwnerMail, Payload},
        threepid::{Address, Medium},
        time::Millis,
    },
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

/// A value of `outbox`.
#[derive(Debug, Serialize, Deserialize)]
pub struct OutboxRow {
    payload: PayloadRow,
    since: Millis,
    failures: u32,
    due: Millis,
}

#[derive(Debug, Serialize, Deserialize)]
enum PayloadRow {
    OnBind { user_id: String },
    InvitationMail { room_name: Option<String>, inviter_name: Option<String>, is_space: bool },
    OwnerMail { address: String, change: BindingChange, user_id: String, language: Language },
    NoMail { domain: String },
}

impl OutboxRow {
    fn of(outgoing: &Outgoing) -> Self {
        let payload = match &outgoing.payload {
            Payload::OnBind(user_id) => PayloadRow::OnBind { user_id: user_id.as_str().to_owned() },
            Payload::InvitationMail(described) => {
                let Described { room_name, inviter_name, is_space } = described.clone();
                PayloadRow::InvitationMail { room_name, inviter_name, is_space }
            }
            Payload::NoMail(domain) => PayloadRow::NoMail { domain: domain.clone() },
            Payload::OwnerMail(OwnerMail { address, change, user_id, language }) => PayloadRow::OwnerMail {
                address: address.as_str().to_owned(),
                change: *change,
                user_id: user_id.as_str().to_owned(),
                language: *language,
            },
        };
        Self { payload, since: outgoing.since, failures: outgoing.failures, due: outgoing.due }
    }
}

pub(in crate::store) fn read(row: &[u8]) -> Result<Outgoing, StoreError> {
    let OutboxRow { payload, since, failures, due } = decode(row)?;
    let payload = match payload {
        PayloadRow::OnBind { user_id } => Payload::OnBind(read_user_id(&user_id)?),
        PayloadRow::InvitationMail { room_name, inviter_name, is_space } => {
            Payload::InvitationMail(Described { room_name, inviter_name, is_space })
        }
        PayloadRow::NoMail { domain } => Payload::NoMail(domain),
        PayloadRow::OwnerMail { address, change, user_id, language } => {
            // Owners are notified by mail only.
            let (address, user_id) = (Address::kept(Medium::Email, &address), read_user_id(&user_id)?);
            Payload::OwnerMail(OwnerMail { address, change, user_id, language })
        }
    };
    Ok(Outgoing { payload, since, failures, due })
}

pub(in crate::store) fn read_key(kind: u8, token: &str) -> Result<OutboxKey, StoreError> {
    let kind = Kind::from_number(kind);
    let kind = kind.ok_or_else(|| StoreError::unreadable("unknown kind in the outbox"))?;
    Ok(OutboxKey { kind, token: read_token(token)? })
}

impl<T: Transaction> Tables<T> {
    /// A row of the outbox.
    pub fn outgoing(&self, key: &OutboxKey) -> Result<Option<Outgoing>, StoreError> {
        self.outbox.get(row_key(key))?.map(|row| read(row.value())).transpose()
    }
}

impl Scan<'_> {
    /// At most `limit` rows that are due, the longest due first, after `after` in that order: when each was
    /// due, and its key.
    pub fn due(
        &self,
        now: Millis,
        after: Option<&(Millis, OutboxKey)>,
        limit: usize,
    ) -> Result<Vec<(Millis, OutboxKey)>, StoreError> {
        // The clock may have been set back.
        if after.is_some_and(|(due, _)| *due > now) {
            return Ok(Vec::new());
        }
        let from = after.map_or(Bound::Unbounded, |(due, key)| Bound::Excluded(due_key(key, *due)));
        let until = Bound::Excluded((now.0.saturating_add(1), 0, ""));
        self.due_in_range((from, until), limit)
    }

    /// At most `limit` rows that are due later than `after`, the earliest due first, behind `cursor`.
    pub fn due_after(
        &self,
        after: Millis,
        cursor: Option<&(Millis, OutboxKey)>,
        limit: usize,
    ) -> Result<Vec<(Millis, OutboxKey)>, StoreError> {
        let from = match cursor {
            Some((due, key)) => Bound::Excluded(due_key(key, *due)),
            None => Bound::Included((after.0.saturating_add(1), 0, "")),
        };
        self.due_in_range((from, Bound::Unbounded), limit)
    }

    /// At most `limit` rows of a range, the earliest due first.
    fn due_in_range(
        &self,
        range: (Bound<DueKey<'_>>, Bound<DueKey<'_>>),
        limit: usize,
    ) -> Result<Vec<(Millis, OutboxKey)>, StoreError> {
        let rows = self.outbox_due.range::<DueKey<'_>>(range)?.take(limit);
        rows.map(|row| {
            let (key, _) = row?;
            let (due, kind, token) = key.value();
            Ok((Millis(due), read_key(kind, token)?))
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Stores a row. Replaces the one with the same key.
    pub fn put_outgoing(&mut self, key: &OutboxKey, outgoing: &Outgoing) -> Result<(), StoreError> {
        self.remove_outgoing(key)?;
        let row = encode(&OutboxRow::of(outgoing))?;
        self.tables.outbox.insert(row_key(key), row.as_slice())?;
        self.tables.outbox_due.insert(due_key(key, outgoing.due), ())?;
        Ok(())
    }

    /// Removes a row. Returns whether there was one.
    pub fn remove_outgoing(&mut self, key: &OutboxKey) -> Result<bool, StoreError> {
        let Some(Outgoing { due, .. }) = self.outgoing(key)? else { return Ok(false) };
        self.tables.outbox.remove(row_key(key))?;
        self.tables.outbox_due.remove(due_key(key, due))?;
        Ok(true)
    }
}

fn row_key(key: &OutboxKey) -> (u8, &str) {
    (key.kind.number(), key.token.as_str())
}

/// When a row is due, and its key.
type DueKey<'a> = (u64, u8, &'a str);

fn due_key(key: &OutboxKey, due: Millis) -> DueKey<'_> {
    (due.0, key.kind.number(), key.token.as_str())
}
