//! Replaces the pepper when its period is over, and deletes the previous one when its grace period is.

use tokio::sync::watch;

use super::{Tasks, tick};
use crate::ops::lookup::pepper;

/// How many ticks pass before a rotation that failed is retried.
const TICKS_BEFORE_RETRY: u32 = 60;

pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    loop {
        let kept = tokio::select! {
            kept = pepper::keep(&tasks.core) => kept,
            // Between two steps; the next start goes on.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let pause = match kept {
            Ok(kept) => {
                if kept.forgotten {
                    tracing::info!("the previous pepper was deleted");
                }
                if let Some(rotated) = kept.rotated {
                    tracing::info!(addresses = rotated.addresses, "a new pepper is in use");
                }
                tasks.tick
            }
            Err(error) => {
                tracing::error!(%error, "the pepper could not be replaced; the server retries it in a minute");
                tasks.tick * TICKS_BEFORE_RETRY
            }
        };
        if !tick(pause, &mut stop).await {
            return;
        }
    }
}
