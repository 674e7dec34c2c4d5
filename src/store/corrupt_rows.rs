//! Removes rows that cannot be read, because the disk damaged them or Bindery has a bug. Retention does this
//! after it failed on one: such a row would keep others from being deleted, and would never expire.
//!
//! Only tables whose rows have an age are checked. Associations and the server's keys are never removed here.

use redb::{Key, ReadableTable, Value};

use super::{
    StoreError, Writes,
    changes::WriteTable,
    codec::decode,
    progress,
    rows::{consent::ConsentRow, invitation, outbox, read_user_id, session, token, visit},
};
use crate::domain::{audit::Entry, secret::SecretHash};

impl Writes<'_> {
    /// Removes every unreadable row that has an age, with the index entries that lead to it. Returns how many
    /// rows and index entries were removed. Reads all of them in one transaction, while other writes wait.
    pub fn remove_unreadable_rows(&mut self) -> Result<usize, StoreError> {
        let tables = &mut self.tables;
        let mut removed = 0;
        removed += keep(&mut tables.sessions, |sid, row| Ok(session::read(sid, row).is_ok()))?;
        removed += keep(&mut tables.session_index, |_, row| match decode::<&str>(row) {
            Ok(sid) => has(&*tables.sessions, sid),
            Err(_) => Ok(false),
        })?;
        removed += keep(&mut tables.address_sessions, |(_, _, sid), ()| has(&*tables.sessions, sid))?;
        removed += keep(&mut tables.account_sessions, |(_, sid), ()| has(&*tables.sessions, sid))?;
        removed += keep(&mut tables.invitations, |token, row| Ok(invitation::read(token, row).is_ok()))?;
        removed += keep(&mut tables.invited, |(_, _, token), ()| has(&*tables.invitations, token))?;
        removed += keep(&mut tables.account_invitations, |(_, token), ()| has(&*tables.invitations, token))?;
        removed += keep(&mut tables.ephemeral_keys, |_, row| match decode::<&str>(row) {
            Ok(token) => has(&*tables.invitations, token),
            Err(_) => Ok(false),
        })?;
        // A row without an entry in `outbox_due` would never be sent, nor given up.
        removed +=
            keep(&mut tables.outbox_due, |(_, kind, token), ()| Ok(outbox::read_key(kind, token).is_ok()))?;
        removed += keep(&mut tables.outbox, |(kind, token), row| match outbox::read(row) {
            Ok(row) => has(&*tables.outbox_due, (row.due.0, kind, token)),
            Err(_) => Ok(false),
        })?;
        removed += keep(&mut tables.outbox_due, |(_, kind, token), ()| has(&*tables.outbox, (kind, token)))?;
        removed += keep(&mut tables.visits, |_, row| Ok(visit::read(row).is_ok()))?;
        removed += keep(&mut tables.address_visits, |(_, _, secret), ()| has(&*tables.visits, secret))?;
        removed += keep(&mut tables.tokens, |hash, row| Ok(token::read(SecretHash(*hash), row).is_ok()))?;
        removed += keep(&mut tables.account_tokens, |(_, hash), ()| has(&*tables.tokens, hash))?;
        removed += keep(&mut tables.consents, |(user, _), row| {
            Ok(read_user_id(user).is_ok() && decode::<ConsentRow<'_>>(row).is_ok())
        })?;
        removed += keep(&mut tables.audit, |_, row| Ok(decode::<Entry>(row).is_ok()))?;
        removed += keep(&mut tables.subject_audit, |(_, number), ()| has(&*tables.audit, number))?;
        Ok(removed)
    }
}

/// Removes the rows for which `is_good` is false. Returns how many.
fn keep<K: Key + 'static, V: Value + 'static>(
    table: &mut WriteTable<'_, K, V>,
    is_good: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> Result<bool, StoreError>,
) -> Result<usize, StoreError> {
    let mut outcome = Ok(());
    let removed = table.retain(|key, row| {
        progress::step();
        is_good(key, row).unwrap_or_else(|error| {
            outcome = Err(error);
            true
        })
    })?;
    outcome.map(|()| removed)
}

fn has<'k, K: Key + 'static, V: Value + 'static>(
    table: &impl ReadableTable<K, V>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
) -> Result<bool, StoreError> {
    Ok(table.get(key)?.is_some())
}
