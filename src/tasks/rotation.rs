//! Replaces the pepper when it has been in use for its time, and forgets the one before when nobody
//! may use it any more.

use tokio::sync::watch;

use super::{Tasks, tick};
use crate::ops::lookup::pepper;

/// For how many looks at the clock there is a rest after a failure.
const REST: u32 = 60;

pub async fn run(tasks: &Tasks, mut stop: watch::Receiver<bool>) {
    loop {
        let kept = tokio::select! {
            kept = pepper::keep(&tasks.core) => kept,
            // Between two steps; the next start goes on.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let pause = match kept {
            Ok(kept) => {
                if kept.forgotten {
                    tracing::info!("the previous pepper is forgotten");
                }
                if let Some(rotated) = kept.rotated {
                    tracing::info!(addresses = rotated.addresses, "a new pepper is in use");
                }
                tasks.tick
            }
            Err(error) => {
                tracing::error!(%error, "the pepper could not be replaced");
                tasks.tick * REST
            }
        };
        if !tick(pause, &mut stop).await {
            return;
        }
    }
}
