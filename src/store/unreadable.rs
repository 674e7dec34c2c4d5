//! Removes rows that cannot be read, because of a damaged disk or of a mistake of ours. Retention asks for it
//! when one has made it fail: such a row would keep others from being deleted, and would itself stay for ever.
//!
//! Only tables whose rows have an age are looked at. What a person published, and the keys of this
//! server, are never removed here.

use redb::{Key, ReadableTable, Table, Value};

use super::{
    StoreError, Writes, accounts,
    codec::decode,
    invitations, outbox,
    rows::{ConsentRow, user_id},
    sessions, visits,
};
use crate::domain::{audit::Entry, secret::SecretHash};

impl Writes<'_> {
    /// Removes every row that has an age and cannot be read, with whatever leads to it; how many rows
    /// and entries of indexes those were. It looks at all of them in one transaction, and writers wait.
    pub fn remove_unreadable(&mut self) -> Result<usize, StoreError> {
        // Whatever fails below, something may have been written.
        self.written += 1;
        let tables = &mut self.tables;
        let mut removed = 0;
        removed += keep(&mut tables.sessions, |sid, row| Ok(sessions::read(sid, row).is_ok()))?;
        removed += keep(&mut tables.session_index, |_, row| match decode::<&str>(row) {
            Ok(sid) => has(&tables.sessions, sid),
            Err(_) => Ok(false),
        })?;
        removed += keep(&mut tables.invitations, |token, row| Ok(invitations::read(token, row).is_ok()))?;
        removed += keep(&mut tables.invited, |(_, _, token), ()| has(&tables.invitations, token))?;
        removed += keep(&mut tables.ephemeral_keys, |_, row| match decode::<&str>(row) {
            Ok(token) => has(&tables.invitations, token),
            Err(_) => Ok(false),
        })?;
        // A row that nothing leads to would never be sent, nor given up.
        removed +=
            keep(&mut tables.outbox_due, |(_, kind, token), ()| Ok(outbox::read_key(kind, token).is_ok()))?;
        removed += keep(&mut tables.outbox, |(kind, token), row| match outbox::read(row) {
            Ok(row) => has(&tables.outbox_due, (row.due.0, kind, token)),
            Err(_) => Ok(false),
        })?;
        removed += keep(&mut tables.outbox_due, |(_, kind, token), ()| has(&tables.outbox, (kind, token)))?;
        removed += keep(&mut tables.visits, |_, row| Ok(visits::read(row).is_ok()))?;
        removed += keep(&mut tables.tokens, |hash, row| Ok(accounts::read(SecretHash(*hash), row).is_ok()))?;
        removed += keep(&mut tables.account_tokens, |(_, hash), ()| has(&tables.tokens, hash))?;
        removed += keep(&mut tables.consents, |(user, _), row| {
            Ok(user_id(user).is_ok() && decode::<ConsentRow<'_>>(row).is_ok())
        })?;
        removed += keep(&mut tables.audit, |_, row| Ok(decode::<Entry>(row).is_ok()))?;
        self.removed |= removed > 0;
        self.revoked |= removed > 0;
        Ok(removed)
    }
}

/// Keeps the rows that `is_good` says are, and removes the others; how many those were.
fn keep<K: Key + 'static, V: Value + 'static>(
    table: &mut Table<'_, K, V>,
    is_good: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> Result<bool, StoreError>,
) -> Result<usize, StoreError> {
    let (mut removed, mut outcome) = (0, Ok(()));
    let is_kept = |key: K::SelfType<'_>, row: V::SelfType<'_>| {
        let is_kept = is_good(key, row).unwrap_or_else(|error| {
            outcome = Err(error);
            true
        });
        removed += usize::from(!is_kept);
        is_kept
    };
    table.retain(is_kept).map_err(StoreError::new)?;
    outcome.map(|()| removed)
}

fn has<'k, K: Key + 'static, V: Value + 'static>(
    table: &impl ReadableTable<K, V>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
) -> Result<bool, StoreError> {
    Ok(table.get(key).map_err(StoreError::new)?.is_some())
}
