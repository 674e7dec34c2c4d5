//! Saves every few seconds, and at the end, how much of each lookup budget is used; ends the alarm about lookups when
//! a new day begins.

use tokio::sync::watch;

use super::{Tasks, tick};
use crate::ops::lookup::{alarm, budget};

/// With a tick of one second, a crash forgives the lookups of five seconds.
const TICKS_BETWEEN_SAVES: u32 = 5;

pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    loop {
        let go_on = tick(tasks.tick * TICKS_BETWEEN_SAVES, &mut stop).await;
        alarm::reset(&tasks.core);
        if let Err(error) = budget::store_changes(&tasks.core).await {
            tracing::error!(%error, "the used lookup budgets could not be saved; a restart now would forgive them");
        }
        if !go_on {
            return;
        }
    }
}
