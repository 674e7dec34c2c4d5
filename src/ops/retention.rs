//! What makes the periods true: everything that has reached its age is deleted (design, P4, P9, P18;
//! the periods are in `domain::retention`).
//!
//! A round works through the tables in bounded steps, each in a transaction of its own, so that it
//! may be stopped or killed between any two of them and is simply done again. Bindings have no age: nothing
//! is unpublished for idleness. The logs are files of their own and not its business.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Core, Failure, invitations::is_pending};
use crate::{
    domain::{
        ids::{Sid, Token, UserId},
        invitation::Invitation,
        retention::{AUDIT, REWRITE, SESSION, VISIT_LINK, old_copies},
        secret::SecretHash,
        session::Session,
        time::Millis,
    },
    store::{Snapshot, StoreError, Writes},
};

/// How many rows are looked at or removed in one step, so that nothing else waits for long.
const STEP: usize = 256;

/// Whether rounds are done. They rest after the clock has jumped, since a wrong clock would delete
/// what is not old.
#[derive(Default)]
pub struct Switch(AtomicBool);

impl Switch {
    /// No more rounds, until [`Switch::resume`].
    pub fn halt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The time is right.
    pub fn resume(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether rounds rest.
    pub fn is_halted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How much a round deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Validation sessions.
    pub sessions: usize,
    /// Invitations, each with its key and what was to be sent for it.
    pub invitations: usize,
    /// Visits of people to their own page.
    pub visits: usize,
    /// Access tokens that nobody used.
    pub tokens: usize,
    /// Consents of accounts that have neither a token nor a binding.
    pub consents: usize,
    /// Entries of the audit.
    pub audit: usize,
    /// Whether the file was rewritten, so that nothing deleted before is left in it.
    pub rewritten: bool,
}

/// Deletes everything that has reached its age by now, and has the file rewritten if something was
/// deleted since the last time, once a day at most. A table that cannot be worked through keeps
/// nothing else from going.
///
/// # Errors
/// If the database fails.
pub async fn round(core: &Core) -> Result<Deleted, Failure> {
    let (now, deleted) = (core.clock.now(), delete(core).await);
    let is_due = rewrite_due(&core.store.read(), now)?.is_some_and(|due| now >= due);
    Ok(Deleted { rewritten: is_due && rewrite(core).await?, ..deleted? })
}

/// As [`round`], but has the file rewritten however short a time ago that was.
///
/// # Errors
/// If the database fails.
pub async fn round_at_once(core: &Core) -> Result<Deleted, Failure> {
    let deleted = delete(core).await;
    let is_due = core.store.read().has_removed()?;
    Ok(Deleted { rewritten: is_due && rewrite(core).await?, ..deleted? })
}

async fn rewrite(core: &Core) -> Result<bool, Failure> {
    core.store.rewrite(core.clock.now()).await?;
    Ok(true)
}

/// When the file is to be rewritten; `None` if nothing was deleted since the last time.
pub(super) fn rewrite_due(snapshot: &Snapshot, now: Millis) -> Result<Option<Millis>, StoreError> {
    // One that is said to be yet to come was made while the clock was wrong.
    let last = snapshot.rewritten()?.filter(|last| *last <= now);
    let due = last.map_or(Millis(0), |last| last.after(REWRITE));
    Ok(snapshot.has_removed()?.then_some(due))
}

/// Whether something that was removed is in the file for longer than is promised, because it could
/// not be rewritten.
///
/// # Errors
/// If the database fails.
pub fn is_overdue(core: &Core) -> Result<bool, Failure> {
    let (longest, since) = (core.config.privacy.deleted_binding(), core.store.read().removed_since()?);
    Ok(since.is_some_and(|since| core.clock.now() >= since.after(longest)))
}

/// Deletes everything that has reached its age by now.
///
/// # Errors
/// If the database fails.
pub async fn delete(core: &Core) -> Result<Deleted, Failure> {
    let now = core.clock.now();
    let copies = core.store.remove_old_copies(old_copies(core.config.privacy.deleted_binding()), now);
    let lifetime = core.config.invites.lifetime();
    let idle = core.config.privacy.idle_account();
    let sessions = purge(
        core,
        |snapshot, after: Option<&Sid>| {
            let batch = snapshot.sessions_after(after, STEP)?;
            Ok(batch.into_iter().map(|(sid, session)| (sid, is_over(&session, now))).collect())
        },
        move |tables, sid| {
            // It may have been validated since, and lives another day then.
            let is_expired = tables.session(&sid)?.is_some_and(|session| is_over(&session, now));
            if is_expired {
                tables.remove_session(&sid)?;
            }
            Ok(usize::from(is_expired))
        },
    );
    let sessions = sessions.await;
    let invitations = purge(
        core,
        |snapshot, after: Option<&Token>| {
            let batch = snapshot.invitations_after(after, STEP)?;
            let is_over =
                |one: &Invitation| !is_pending(core, one) || is_yet_to_come(one.created, lifetime, now);
            Ok(batch.into_iter().map(|one| (one.token.clone(), is_over(&one))).collect())
        },
        |tables, token| tables.remove_invitation(&token).map(|()| 1),
    );
    let invitations = invitations.await;
    let visits = purge(
        core,
        |snapshot, after: Option<&SecretHash>| {
            let batch = snapshot.visits_after(after.copied(), STEP)?;
            Ok(batch
                .into_iter()
                .map(|(secret, visit)| {
                    (secret, visit.is_over(now) || is_yet_to_come(visit.until, VISIT_LINK, now))
                })
                .collect())
        },
        |tables, secret| tables.remove_visit(secret).map(|()| 1),
    );
    let visits = visits.await;
    let tokens = purge(
        core,
        |snapshot, after: Option<&SecretHash>| {
            let batch = snapshot.tokens_after(after.copied(), STEP)?;
            Ok(batch.into_iter().map(|token| (token.hash, now >= token.last_use().after(idle))).collect())
        },
        move |tables, hash| {
            let is_idle = tables.token(hash)?.is_some_and(|token| now >= token.last_use().after(idle));
            if is_idle {
                tables.remove_token(hash)?;
            }
            Ok(usize::from(is_idle))
        },
    );
    let tokens = tokens.await;
    let consents = purge(
        core,
        |snapshot, after: Option<&UserId>| {
            let batch = snapshot.consenting_after(after, STEP)?;
            batch.into_iter().map(|user| Ok((user.clone(), !is_known(snapshot, &user)?))).collect()
        },
        |tables, user| {
            let is_known = !tables.tokens_of(&user)?.is_empty() || !tables.associations_of(&user)?.is_empty();
            if is_known { Ok(0) } else { tables.remove_consents(&user) }
        },
    );
    let consents = consents.await;
    let audit = audit(core, now).await;
    core.store.write(move |tables| tables.put_round(now)).await?;
    // What cannot be removed keeps nothing else from being deleted.
    copies?;
    Ok(Deleted {
        sessions: sessions?,
        invitations: invitations?,
        visits: visits?,
        tokens: tokens?,
        consents: consents?,
        audit: audit?,
        rewritten: false,
    })
}

fn is_over(session: &Session, now: Millis) -> bool {
    session.is_expired(now) || is_yet_to_come(session.modified, SESSION, now)
}

/// Whether a row is of a time so far ahead that its whole life is: it was written while the clock was wrong,
/// and would stay for who knows how long.
fn is_yet_to_come(at: Millis, life: Duration, now: Millis) -> bool {
    at > now.after(life)
}

/// Whether an account still has a token or a binding.
fn is_known(snapshot: &Snapshot, user: &UserId) -> Result<bool, StoreError> {
    Ok(!snapshot.tokens_of(user)?.is_empty() || !snapshot.associations_of(user)?.is_empty())
}

/// Works through a table: `look` gives a batch of keys after the one it is given, each with whether
/// its row is to go, and `remove` removes one, having looked once more; how many went.
async fn purge<K: Clone + Send + 'static>(
    core: &Core,
    look: impl Fn(&Snapshot, Option<&K>) -> Result<Vec<(K, bool)>, StoreError>,
    remove: impl Fn(&mut Writes<'_>, K) -> Result<usize, StoreError> + Clone + Send + 'static,
) -> Result<usize, Failure> {
    let (mut removed, mut after) = (0, None);
    loop {
        let batch = look(&core.store.read(), after.as_ref())?;
        let Some((last, _)) = batch.last() else { return Ok(removed) };
        after = Some(last.clone());
        let over: Vec<K> = batch.into_iter().filter(|(_, is_over)| *is_over).map(|(key, _)| key).collect();
        if over.is_empty() {
            // What else the runtime has to do comes in between.
            tokio::task::yield_now().await;
            continue;
        }
        let remove = remove.clone();
        let step = move |tables: &mut Writes<'_>| {
            over.into_iter().try_fold(0, |count, key| Ok(count + remove(tables, key)?))
        };
        removed += core.store.write(step).await?;
    }
}

async fn audit(core: &Core, now: Millis) -> Result<usize, Failure> {
    let Some(before) = now.before(AUDIT) else { return Ok(0) };
    let mut removed = 0;
    loop {
        let step = core.store.write(move |tables| tables.remove_audit_before(before, STEP)).await?;
        removed += step;
        if step < STEP {
            return Ok(removed);
        }
    }
}
