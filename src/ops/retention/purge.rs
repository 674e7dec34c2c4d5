//! Deletes the rows that have reached their age, one table at a time.
//!
//! Each table is read and purged in bounded steps, each in its own transaction. A purge may stop between any
//! two steps and be run again. [`super`] decides which tables a round purges.

use std::time::{Duration, Instant};

use crate::{
    domain::{
        audit::Entry,
        ids::{Sid, Token, UserId},
        invitation::Invitation,
        outbox::{OutboxKey, Outgoing, RETRY_MOST},
        retention::AUDIT,
        secret::SecretHash,
        session::Session,
        time::{DAY, Millis},
        visit::Visit,
    },
    ops::{Core, Failure, pause},
    store::{Scan, StoreError, StoredToken, Tables, Transaction, Writes},
};

/// How many rows one step reads or removes. Bounds how long other writes wait.
const PURGE_BATCH: usize = 256;

/// Deletes validation sessions a day after their last change.
pub(super) async fn sessions(core: &Core, now: Millis) -> Result<usize, Failure> {
    let is_over = move |session: &Session| session.is_expired(now);
    purge(
        core,
        move |scan, after: Option<&Sid>| {
            let batch = scan.sessions_after(after, PURGE_BATCH)?;
            Ok(batch.into_iter().map(|(sid, session)| (sid, is_over(&session))).collect())
        },
        move |tables, sid| {
            // It may have been validated since it was read. Then it stays for another day.
            let is_expired = tables.session(&sid)?.is_some_and(|session| is_over(&session));
            if is_expired { tables.remove_session(&sid) } else { Ok(false) }
        },
    )
    .await
}

/// Deletes invitations that expired without being accepted, each with its key and its queued messages.
pub(super) async fn invitations(core: &Core, now: Millis) -> Result<usize, Failure> {
    let lifetime = core.config.invites.lifetime();
    let is_over =
        move |one: &Invitation| one.is_expired(lifetime, now) || outlives(one.created, lifetime, now);
    purge(
        core,
        move |scan, after: Option<&Token>| {
            let batch = scan.invitations_after(after, PURGE_BATCH)?;
            Ok(batch.into_iter().map(|one| (one.token.clone(), is_over(&one))).collect())
        },
        |tables, token| tables.remove_invitation(&token),
    )
    .await
}

/// Deletes expired visits to people's own pages.
pub(super) async fn visits(core: &Core, now: Millis) -> Result<usize, Failure> {
    let is_over = move |visit: &Visit| visit.is_over(now);
    purge(
        core,
        move |scan, after: Option<&SecretHash>| {
            let batch = scan.visits_after(after.copied(), PURGE_BATCH)?;
            Ok(batch.into_iter().map(|(secret, visit)| (secret, is_over(&visit))).collect())
        },
        |tables, secret| tables.remove_visit(secret),
    )
    .await
}

/// Deletes queued mails to owners that are past their retry period. The outbox task gives up by itself. This
/// purges rows that a wrong clock wrote, or that a blocked task left. Other rows are deleted with their
/// invitation.
pub(super) async fn outbox(core: &Core, now: Millis) -> Result<usize, Failure> {
    let is_over = move |row: &Outgoing| {
        now.before(RETRY_MOST).is_some_and(|then| row.is_late(then))
            || outlives(row.since, row.payload.kind().give_up(), now)
    };
    purge(
        core,
        move |scan, after: Option<&(Millis, OutboxKey)>| {
            let mut batch = Vec::new();
            for (due, key) in scan.due(Millis(u64::MAX), after, PURGE_BATCH)? {
                let is_over = scan.outgoing(&key)?.is_some_and(|row| is_over(&row));
                batch.push(((due, key), is_over));
            }
            Ok(batch)
        },
        move |tables, (_, key)| {
            let is_late = tables.outgoing(&key)?.is_some_and(|row| is_over(&row));
            if is_late { tables.remove_outgoing(&key) } else { Ok(false) }
        },
    )
    .await
}

/// Revokes access tokens that were not used for `privacy.idle_account_days`.
pub(super) async fn tokens(core: &Core, now: Millis) -> Result<usize, Failure> {
    let idle = core.config.privacy.idle_account();
    let is_idle = move |token: &StoredToken| now >= token.last_use().after(idle);
    let has_wrong_day = move |token: &StoredToken| outlives(token.used, DAY, now);
    purge(
        core,
        move |scan, after: Option<&SecretHash>| {
            let batch = scan.tokens_after(after.copied(), PURGE_BATCH)?;
            let is_due = |token: &StoredToken| is_idle(token) || has_wrong_day(token);
            Ok(batch.into_iter().map(|token| (token.hash, is_due(&token))).collect())
        },
        move |tables, hash| match tables.token(hash)? {
            Some(token) if is_idle(&token) => tables.remove_token(hash),
            // Its last use is unknown, so the idle period starts now.
            Some(token) if has_wrong_day(&token) => {
                tables.put_stored_token(&StoredToken { used: now, ..token }).map(|()| false)
            }
            _ => Ok(false),
        },
    )
    .await
}

/// Deletes the consents of accounts that have neither a token nor a binding.
pub(super) async fn consents(core: &Core) -> Result<usize, Failure> {
    purge(
        core,
        |scan, after: Option<&UserId>| {
            // Read the consents too: an unreadable one would make every request of the account fail, and this
            // finds it.
            let is_due = |user: &UserId| Ok(!scan.consents_of(user)?.is_empty() && !is_known(scan, user)?);
            let batch = scan.consenting_after(after, PURGE_BATCH)?;
            batch.into_iter().map(|user| is_due(&user).map(|is_due| (user, is_due))).collect()
        },
        |tables, user| {
            if is_known(tables, &user)? { Ok(false) } else { Ok(tables.remove_consents(&user)? > 0) }
        },
    )
    .await
}

/// Deletes entries of the audit. An entry that a wrong clock dated ahead is dated now, so that it stays for a year.
pub(super) async fn audit(core: &Core, now: Millis) -> Result<usize, Failure> {
    let oldest = now.before(AUDIT).unwrap_or(Millis(0));
    let is_due = move |entry: &Entry| entry.at < oldest || entry.at.is_ahead_of(now);
    purge(
        core,
        move |scan, after: Option<&u64>| {
            let batch = scan.audit_after(after.copied(), PURGE_BATCH)?;
            Ok(batch.into_iter().map(|(number, entry)| (number, is_due(&entry))).collect())
        },
        move |tables, number| match tables.audit_entry(number)? {
            Some(entry) if entry.at.is_ahead_of(now) => {
                tables.replace_audit(number, &Entry { at: now, ..entry }).map(|()| false)
            }
            _ => tables.remove_audit(number),
        },
    )
    .await
}

/// Whether a row is dated ahead by more than its lifetime. A wrong clock wrote it, and it would stay for more than twice
/// its lifetime.
fn outlives(at: Millis, life: Duration, now: Millis) -> bool {
    at > now.after(life)
}

/// Whether an account still has a token or a binding.
fn is_known<T: Transaction>(tables: &Tables<T>, user: &UserId) -> Result<bool, StoreError> {
    // An unreadable association counts as a binding.
    let has_association = || tables.associations_of(user).map_or(true, |own| !own.is_empty());
    Ok(!tables.tokens_of(user)?.is_empty() || has_association())
}

/// Purges a table. `read` returns the batch of keys after a key, each with whether its row is due. `remove`
/// checks again and removes the row. Returns how many rows were removed.
async fn purge<K: Clone + Send + 'static>(
    core: &Core,
    read: impl Fn(&Scan<'_>, Option<&K>) -> Result<Vec<(K, bool)>, StoreError> + Clone + Send + 'static,
    remove: impl Fn(&mut Writes<'_>, K) -> Result<bool, StoreError> + Clone + Send + 'static,
) -> Result<usize, Failure> {
    let (mut removed, mut after): (usize, Option<K>) = (0, None);
    loop {
        #[expect(clippy::disallowed_methods, reason = "how long a step takes is real time")]
        let begun = Instant::now();
        let read = read.clone();
        let batch = core.store.scan(move |scan| read(scan, after.as_ref())).await?;
        let is_last = batch.len() < PURGE_BATCH;
        after = batch.last().map(|(key, _)| key.clone());
        let over: Vec<K> = batch.into_iter().filter(|(_, is_over)| *is_over).map(|(key, _)| key).collect();
        if !over.is_empty() {
            let remove = remove.clone();
            let step = move |tables: &mut Writes<'_>| {
                over.into_iter().try_fold(0, |count, key| Ok(count + usize::from(remove(tables, key)?)))
            };
            removed += core.store.write(step).await?;
        }
        if is_last {
            return Ok(removed);
        }
        pause::after_step(begun).await;
    }
}
