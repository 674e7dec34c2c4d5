//! Writes down every few seconds, and at the end, how much of its lookup budget everybody has used.

use tokio::sync::watch;

use super::{Tasks, tick};
use crate::ops::lookup::budget;

/// Every so many looks at the clock; with one a second, a crash forgives five seconds.
const EVERY: u32 = 5;

pub async fn run(tasks: &Tasks, mut stop: watch::Receiver<bool>) {
    loop {
        let go_on = tick(tasks.tick * EVERY, &mut stop).await;
        if let Err(error) = budget::write_down(&tasks.core).await {
            tracing::error!(%error, "lookup budgets could not be written down");
        }
        if !go_on {
            return;
        }
    }
}
