//! Retention: deletes every row that has reached its age (design, P4, P9, P18; the periods are in
//! `domain::retention`).
//!
//! It decides which tables a round purges and whether the file is rewritten. `purge` finds and removes the
//! rows; `tasks::retention` decides how often a round runs. Bindings have no age: none is removed because it is
//! idle. The logs are separate files, see `logs`.

mod purge;
pub mod status;

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::{Core, Failure, backup};
use crate::{
    domain::{
        retention::{REWRITE, old_copies},
        time::Millis,
    },
    store::{Snapshot, StoreError, Writes},
};

/// Halts the rounds after the clock has jumped: by a wrong clock, rows that are not old would be deleted.
#[derive(Default)]
pub struct Switch(AtomicBool);

impl Switch {
    /// Halts the rounds until [`Switch::resume`].
    pub fn halt(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Resumes the rounds, because the clock is right.
    pub fn resume(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the rounds are halted.
    pub fn is_halted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a round deleted, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Validation sessions.
    pub sessions: usize,
    /// Invitations, each with its key and its queued messages.
    pub invitations: usize,
    /// Visits of people to their own page.
    pub visits: usize,
    /// Rows of the outbox that were not sent in time.
    pub outbox: usize,
    /// Idle access tokens.
    pub tokens: usize,
    /// Consents of accounts that have neither a token nor a binding.
    pub consents: usize,
    /// Entries of the audit.
    pub audit: usize,
    /// Whether the file was rewritten, so that no deleted bytes are left in it.
    pub rewritten: bool,
}

/// Runs a round: deletes every row that has reached its age. Rewrites the file, at most once a day, if it may
/// hold deleted or uncommitted bytes. If one table fails, the others are still purged. `now` is the time that
/// the caller has checked for a clock jump; the clock may jump during the round.
pub async fn round(core: &Core, now: Millis) -> Result<Deleted, Failure> {
    let last = core.store.read().last_round_of_accounts()?;
    // These are the largest tables. Tokens expire at midnight (UTC) only, and consents may wait until then.
    let is_due = last.is_none_or(|last| last.day() != now.day());
    let deleted = delete_expired(core, now, is_due).await;
    let is_due = rewrite_due(&core.store.read(), now)?.is_some_and(|due| now >= due);
    Ok(Deleted { rewritten: is_due && rewrite(core, now).await?, ..deleted? })
}

/// As [`round`], but purges every table, and rewrites the file even if the last rewrite was recent.
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

/// When the file is to be rewritten. `None` if nothing was deleted since the last rewrite.
pub(super) fn rewrite_due(snapshot: &Snapshot, now: Millis) -> Result<Option<Millis>, StoreError> {
    // Ignore a rewrite in the future: a wrong clock stored its time.
    let last = snapshot.rewritten()?.filter(|last| *last <= now);
    let due = last.map_or(Millis(0), |last| last.after(REWRITE));
    Ok(snapshot.has_removed()?.then_some(due))
}

/// Whether the file still holds deleted bytes after `privacy.deleted_binding_days`, because it could not be
/// rewritten.
pub fn is_overdue(core: &Core) -> Result<bool, Failure> {
    let (longest, since) = (core.config.privacy.deleted_binding(), core.store.read().removed_since()?);
    Ok(since.is_some_and(|since| core.clock.now() >= since.after(longest)))
}

/// Deletes every row that has reached its age, as the first round of a day does. Does not rewrite the file.
pub async fn delete(core: &Core) -> Result<Deleted, Failure> {
    delete_expired(core, core.clock.now(), true).await
}

async fn delete_expired(core: &Core, now: Millis, with_accounts: bool) -> Result<Deleted, Failure> {
    let kept = old_copies(core.config.privacy.deleted_binding());
    let copies = core.store.remove_old_copies(kept, now);
    let backups = backup::remove_old(core, now);
    let deleted = match purge_tables(core, now, with_accounts).await {
        Err(Failure::Store(error)) if error.is_unreadable_row() => {
            retry_without_unreadable(core, now, with_accounts, error).await
        }
        answer => answer,
    };
    // Checked last: a copy or backup that cannot be removed must not stop the purge.
    copies?;
    backups?;
    deleted
}

/// Removes the rows that cannot be read, and retries: one of them may have caused the failure.
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
    tracing::error!(%error, unreadable, "rows that cannot be read were removed, because they kept retention from deleting others");
    purge_tables(core, now, with_accounts).await
}

async fn purge_tables(core: &Core, now: Millis, with_accounts: bool) -> Result<Deleted, Failure> {
    // No "?" before all have run: if one table fails, the others are still purged.
    let sessions = purge::sessions(core, now).await;
    let invitations = purge::invitations(core, now).await;
    let visits = purge::visits(core, now).await;
    let outbox = purge::outbox(core, now).await;
    let audit = purge::audit(core, now).await;
    let (tokens, consents) = match with_accounts {
        true => (purge::tokens(core, now).await, purge::consents(core).await),
        false => (Ok(0), Ok(0)),
    };
    let has_purged_accounts = with_accounts && tokens.is_ok() && consents.is_ok();
    let note = move |tables: &mut Writes<'_>| {
        if has_purged_accounts {
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
