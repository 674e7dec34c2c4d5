//! Deletes what has expired: at the start, and then once an hour.

use tokio::sync::watch;

use super::{Tasks, tick};
use crate::{domain::time::HOUR, ops::expiry::delete_expired};

pub async fn run(tasks: &Tasks, mut stop: watch::Receiver<bool>) {
    let core = &tasks.core;
    let mut next = core.clock.now();
    loop {
        if core.clock.now() >= next {
            match delete_expired(core).await {
                Ok(deleted) => tracing::debug!(
                    sessions = deleted.sessions,
                    invitations = deleted.invitations,
                    "what had expired was deleted"
                ),
                Err(error) => tracing::error!(%error, "what has expired could not be deleted"),
            }
            next = core.clock.now().after(HOUR);
        }
        if !tick(tasks.tick, &mut stop).await {
            return;
        }
    }
}
