//! Deleting what has expired: validation sessions after their day (design, P4) and invitations that
//! nobody took up.
//!
//! Works through the tables in bounded steps, each in a transaction of its own, so it may be
//! stopped and started again at any moment.

use super::{
    Core, Failure,
    invitations::{BATCH, is_pending},
};
use crate::domain::{
    ids::{Sid, Token},
    invitation::Invitation,
    session::Session,
};

/// How much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Validation sessions.
    pub sessions: usize,
    /// Invitations.
    pub invitations: usize,
}

/// Deletes everything that has expired by now.
///
/// # Errors
/// Only if the database fails.
pub async fn delete_expired(core: &Core) -> Result<Deleted, Failure> {
    Ok(Deleted { sessions: sessions(core).await?, invitations: invitations(core).await? })
}

async fn sessions(core: &Core) -> Result<usize, Failure> {
    let (mut deleted, mut after) = (0, None);
    loop {
        let now = core.clock.now();
        let batch: Vec<(Sid, Session)> = core.store.read().sessions_after(after.as_ref(), BATCH)?;
        let Some((last, _)) = batch.last() else { return Ok(deleted) };
        after = Some(last.clone());
        let expired = batch.into_iter().filter(|(_, session)| session.is_expired(now));
        let expired: Vec<Sid> = expired.map(|(sid, _)| sid).collect();
        if expired.is_empty() {
            continue;
        }
        let removed = core.store.write(move |tables| {
            let mut removed = 0;
            for sid in expired {
                // It may have been validated since, and lives another day then.
                if tables.session(&sid)?.is_some_and(|session| session.is_expired(now)) {
                    tables.remove_session(&sid)?;
                    removed += 1;
                }
            }
            Ok(removed)
        });
        deleted += removed.await?;
    }
}

async fn invitations(core: &Core) -> Result<usize, Failure> {
    let (mut deleted, mut after) = (0, None);
    loop {
        let batch: Vec<Invitation> = core.store.read().invitations_after(after.as_ref(), BATCH)?;
        let Some(last) = batch.last() else { return Ok(deleted) };
        after = Some(last.token.clone());
        let expired = batch.into_iter().filter(|invitation| !is_pending(core, invitation));
        let expired: Vec<Token> = expired.map(|invitation| invitation.token).collect();
        if expired.is_empty() {
            continue;
        }
        deleted += expired.len();
        core.store
            .write(move |tables| expired.iter().try_for_each(|token| tables.remove_invitation(token)))
            .await?;
    }
}
