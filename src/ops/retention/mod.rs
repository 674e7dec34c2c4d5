//! What makes the periods true: everything that has reached its age is deleted (design, P4, P9, P18;
//! the periods are in `domain::retention`).
//!
//! It decides which tables a round looks at and whether the file is rewritten; how rows are found and removed
//! is in `purge`, how often there is a round in `tasks::retention`. Bindings have no age: nothing is unpublished for idleness.
//! The logs are files of their own and not its business.

mod purge;
pub mod status;

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::{Core, Failure};
use crate::{
    domain::{
        retention::{REWRITE, old_copies},
        time::Millis,
    },
    store::{Snapshot, StoreError, Writes},
};

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
    /// What could not be sent.
    pub outbox: usize,
    /// Access tokens that nobody used.
    pub tokens: usize,
    /// Consents of accounts that have neither a token nor a binding.
    pub consents: usize,
    /// Entries of the audit.
    pub audit: usize,
    /// Whether the file was rewritten, so that nothing deleted before is left in it.
    pub rewritten: bool,
}

/// Deletes everything that has reached its age by now, and has the file rewritten if it may hold what was
/// deleted or never committed, once a day at most. A table that cannot be worked through keeps
/// nothing else from going. `now` is the time that was looked at and believed; the clock may jump meanwhile.
///
/// # Errors
/// If the database fails.
pub async fn round(core: &Core, now: Millis) -> Result<Deleted, Failure> {
    let last = core.store.read().last_round_of_accounts()?;
    // These are the largest tables. Tokens fall due at midnight (UTC) only, and consents may wait for that.
    let is_due = last.is_none_or(|last| last.day() != now.day());
    let deleted = delete_expired(core, now, is_due).await;
    let is_due = rewrite_due(&core.store.read(), now)?.is_some_and(|due| now >= due);
    Ok(Deleted { rewritten: is_due && rewrite(core, now).await?, ..deleted? })
}

/// As [`round`], but looks at everything, and has the file rewritten however short a time ago that was.
///
/// # Errors
/// If the database fails.
pub async fn round_at_once(core: &Core) -> Result<Deleted, Failure> {
    let now = core.clock.now();
    let deleted = delete_expired(core, now, true).await;
    let is_due = core.store.read().has_removed()?;
    Ok(Deleted { rewritten: is_due && rewrite(core, now).await?, ..deleted? })
}

async fn rewrite(core: &Core, now: Millis) -> Result<bool, Failure> {
    core.store.rewrite(now).await?;
    Ok(true)
}

/// When the last round began.
pub fn last_round(core: &Core) -> Result<Option<Millis>, Failure> {
    Ok(core.store.read().last_round()?)
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

/// Deletes everything that has reached its age by now, as the first round of a day does.
///
/// # Errors
/// If the database fails.
pub async fn delete(core: &Core) -> Result<Deleted, Failure> {
    delete_expired(core, core.clock.now(), true).await
}

async fn delete_expired(core: &Core, now: Millis, with_accounts: bool) -> Result<Deleted, Failure> {
    let kept = old_copies(core.config.privacy.deleted_binding());
    let copies = core.store.remove_old_copies(kept, now);
    let deleted = match purge_tables(core, now, with_accounts).await {
        Err(Failure::Store(error)) if error.is_unreadable_row() => {
            retry_without_unreadable(core, now, with_accounts, error).await
        }
        answer => answer,
    };
    // What cannot be removed keeps nothing else from being deleted.
    copies?;
    deleted
}

/// Tries once more after removing the rows that cannot be read, since one of them may be why it failed.
async fn retry_without_unreadable(
    core: &Core,
    now: Millis,
    with_accounts: bool,
    error: StoreError,
) -> Result<Deleted, Failure> {
    let unreadable = core.store.write(|tables| tables.remove_unreadable_rows()).await?;
    if unreadable == 0 {
        return Err(error.into());
    }
    tracing::error!(%error, unreadable, "rows that cannot be read were removed, so that the others can go");
    purge_tables(core, now, with_accounts).await
}

async fn purge_tables(core: &Core, now: Millis, with_accounts: bool) -> Result<Deleted, Failure> {
    // No "?" before all have run: a table that fails keeps no other from being purged.
    let sessions = purge::sessions(core, now).await;
    let invitations = purge::invitations(core, now).await;
    let visits = purge::visits(core, now).await;
    let outbox = purge::outbox(core, now).await;
    let audit = purge::audit(core, now).await;
    let (tokens, consents) = match with_accounts {
        true => (purge::tokens(core, now).await, purge::consents(core).await),
        false => (Ok(0), Ok(0)),
    };
    let has_seen_accounts = with_accounts && tokens.is_ok() && consents.is_ok();
    let note = move |tables: &mut Writes<'_>| {
        if has_seen_accounts {
            tables.put_round_of_accounts(now)?;
        }
        tables.put_round(now)
    };
    core.store.write(note).await?;
    Ok(Deleted {
        sessions: sessions?,
        invitations: invitations?,
        visits: visits?,
        outbox: outbox?,
        tokens: tokens?,
        consents: consents?,
        audit: audit?,
        rewritten: false,
    })
}
