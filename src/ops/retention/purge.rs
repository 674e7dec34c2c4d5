//! Deletes the rows that have reached their age, a table at a time.
//!
//! Each table is worked through in bounded steps, each in a transaction of its own, so that it may be
//! stopped or killed between any two of them and begun again. Which tables are due is decided
//! in [`super::retention`].

use std::time::{Duration, Instant};

use crate::{
    domain::{
        ids::{Sid, Token, UserId},
        invitation::Invitation,
        outbox::{OutboxKey, Outgoing, RETRY_MOST},
        retention::{AUDIT, SESSION, VISIT_LINK},
        secret::SecretHash,
        session::Session,
        time::{DAY, Millis},
        visit::Visit,
    },
    ops::{Core, Failure, pause},
    store::{Snapshot, StoreError, StoredToken, Tables, Transaction, Writes},
};

/// How many rows are looked at or removed in one step, so that nothing else waits for long.
const STEP: usize = 256;

/// Validation sessions a day after they last changed.
pub(super) async fn sessions(core: &Core, now: Millis) -> Result<usize, Failure> {
    let is_over = move |session: &Session| {
        session.is_expired(now) || is_from_the_future(session.modified, SESSION, now)
    };
    purge(
        core,
        move |snapshot, after: Option<&Sid>| {
            let batch = snapshot.sessions_after(after, STEP)?;
            Ok(batch.into_iter().map(|(sid, session)| (sid, is_over(&session))).collect())
        },
        move |tables, sid| {
            // It may have been validated since, and lives another day then.
            let is_expired = tables.session(&sid)?.is_some_and(|session| is_over(&session));
            if is_expired {
                tables.remove_session(&sid)?;
            }
            Ok(usize::from(is_expired))
        },
    )
    .await
}

/// Invitations that nobody took up, each with its key and what was to be sent for it.
pub(super) async fn invitations(core: &Core, now: Millis) -> Result<usize, Failure> {
    let lifetime = core.config.invites.lifetime();
    let is_over =
        |one: &Invitation| one.is_expired(lifetime, now) || is_from_the_future(one.created, lifetime, now);
    purge(
        core,
        |snapshot, after: Option<&Token>| {
            let batch = snapshot.invitations_after(after, STEP)?;
            Ok(batch.into_iter().map(|one| (one.token.clone(), is_over(&one))).collect())
        },
        |tables, token| tables.remove_invitation(&token).map(|()| 1),
    )
    .await
}

/// Visits of people to their own page.
pub(super) async fn visits(core: &Core, now: Millis) -> Result<usize, Failure> {
    let is_over = |visit: &Visit| visit.is_over(now) || is_from_the_future(visit.until, VISIT_LINK, now);
    purge(
        core,
        |snapshot, after: Option<&SecretHash>| {
            let batch = snapshot.visits_after(after.copied(), STEP)?;
            Ok(batch.into_iter().map(|(secret, visit)| (secret, is_over(&visit))).collect())
        },
        |tables, secret| tables.remove_visit(secret).map(|()| 1),
    )
    .await
}

/// What could not be sent. Its task gives up by itself; this is for what it cannot know of: a row that was
/// written while the clock was wrong, or a task that is held up.
pub(super) async fn outbox(core: &Core, now: Millis) -> Result<usize, Failure> {
    let is_over = move |row: &Outgoing| {
        // Others go with their invitation.
        now.before(RETRY_MOST).is_some_and(|then| row.is_late(then))
            || is_from_the_future(row.since, row.parcel.kind().give_up(), now)
    };
    purge(
        core,
        move |snapshot, after: Option<&(Millis, OutboxKey)>| {
            let mut batch = Vec::new();
            for (due, key) in snapshot.due(Millis(u64::MAX), after, STEP)? {
                let is_over = snapshot.outgoing(&key)?.is_some_and(|row| is_over(&row));
                batch.push(((due, key), is_over));
            }
            Ok(batch)
        },
        move |tables, (_, key)| {
            let is_late = tables.outgoing(&key)?.is_some_and(|row| is_over(&row));
            if is_late {
                tables.remove_outgoing(&key)?;
            }
            Ok(usize::from(is_late))
        },
    )
    .await
}

/// Access tokens that nobody used for as long as the operator lets them lie.
pub(super) async fn tokens(core: &Core, now: Millis) -> Result<usize, Failure> {
    let idle = core.config.privacy.idle_account();
    let is_idle = move |token: &StoredToken| now >= token.last_use().after(idle);
    let is_odd = move |token: &StoredToken| is_from_the_future(token.used, DAY, now);
    purge(
        core,
        move |snapshot, after: Option<&SecretHash>| {
            let batch = snapshot.tokens_after(after.copied(), STEP)?;
            Ok(batch.into_iter().map(|token| (token.hash, is_idle(&token) || is_odd(&token))).collect())
        },
        move |tables, hash| match tables.token(hash)? {
            Some(token) if is_idle(&token) => tables.remove_token(hash).map(|()| 1),
            // Its time begins now, since nobody knows when it was used.
            Some(token) if is_odd(&token) => {
                tables.put_stored_token(&StoredToken { used: now, ..token }).map(|()| 0)
            }
            _ => Ok(0),
        },
    )
    .await
}

/// Consents of accounts that have neither a token nor a binding.
pub(super) async fn consents(core: &Core) -> Result<usize, Failure> {
    purge(
        core,
        |snapshot, after: Option<&UserId>| {
            // They are read too: one that cannot be would make every request of its account fail.
            let goes =
                |user: &UserId| Ok(!snapshot.consents_of(user)?.is_empty() && !is_known(snapshot, user)?);
            let batch = snapshot.consenting_after(after, STEP)?;
            batch.into_iter().map(|user| goes(&user).map(|goes| (user, goes))).collect()
        },
        |tables, user| if is_known(tables, &user)? { Ok(0) } else { tables.remove_consents(&user) },
    )
    .await
}

/// Entries of the audit.
pub(super) async fn audit(core: &Core, now: Millis) -> Result<usize, Failure> {
    let kept = now.before(AUDIT).unwrap_or(Millis(0))..=now.after(AUDIT);
    // All are read: one that cannot be would make every copy of anybody's data fail.
    core.store.read().audit_since(now, None)?;
    let mut removed = 0;
    loop {
        let kept = kept.clone();
        let step = core.store.write(move |tables| tables.remove_audit_outside(&kept, STEP)).await?;
        removed += step;
        if step < STEP {
            return Ok(removed);
        }
    }
}

/// Whether a row's time is further ahead than its whole life is long: the clock was wrong when it was
/// written, and it would stay until then.
fn is_from_the_future(at: Millis, life: Duration, now: Millis) -> bool {
    at > now.after(life)
}

/// Whether an account still has a token or a binding.
fn is_known<T: Transaction>(tables: &Tables<T>, user: &UserId) -> Result<bool, StoreError> {
    // An association that cannot be read is one all the same.
    let has_association = || tables.associations_of(user).map_or(true, |own| !own.is_empty());
    Ok(!tables.tokens_of(user)?.is_empty() || has_association())
}

/// Works through a table: `look` gives a batch of keys after the one it is given, each with whether
/// its row is to go, and `remove` removes one, if it still is; how many went.
async fn purge<K: Clone + Send + 'static>(
    core: &Core,
    look: impl Fn(&Snapshot, Option<&K>) -> Result<Vec<(K, bool)>, StoreError>,
    remove: impl Fn(&mut Writes<'_>, K) -> Result<usize, StoreError> + Clone + Send + 'static,
) -> Result<usize, Failure> {
    let (mut removed, mut after) = (0, None);
    loop {
        #[expect(clippy::disallowed_methods, reason = "how long a step takes is real time")]
        let began = Instant::now();
        let batch = look(&core.store.read(), after.as_ref())?;
        let (is_last, last) = (batch.len() < STEP, batch.last().map(|(key, _)| key.clone()));
        let over: Vec<K> = batch.into_iter().filter(|(_, is_over)| *is_over).map(|(key, _)| key).collect();
        if !over.is_empty() {
            let remove = remove.clone();
            let step = move |tables: &mut Writes<'_>| {
                over.into_iter().try_fold(0, |count, key| Ok(count + remove(tables, key)?))
            };
            removed += core.store.write(step).await?;
        }
        if is_last {
            return Ok(removed);
        }
        after = last;
        pause::after_step(began).await;
    }
}
