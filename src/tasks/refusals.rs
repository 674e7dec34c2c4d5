//! Logs once a minute how many requests the limits and lookup budgets refused. A line for each refusal would let
//! anybody fill the log.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;

use super::{Tasks, tick};
use crate::metrics::Metrics;

const INTERVAL: Duration = Duration::from_secs(60);

pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    let (core, mut logged) = (&tasks.core, BTreeMap::new());
    let mut next = core.clock.now().after(INTERVAL);
    while tick(tasks.tick, &mut stop).await {
        let now = core.clock.now();
        if now >= next {
            log(&core.metrics, &mut logged);
            next = now.after(INTERVAL);
        }
        // A clock that went back must not put off the next line.
        next = next.min(now.after(INTERVAL));
    }
    log(&core.metrics, &mut logged);
}

/// Logs what was refused since `logged`.
fn log(metrics: &Metrics, logged: &mut BTreeMap<&'static str, u64>) {
    let all = metrics.limited();
    let new = all.iter().map(|(limit, count)| (limit, count - logged.get(limit).unwrap_or(&0)));
    let new = new.filter(|(_, count)| *count > 0).map(|(limit, count)| format!("{limit}: {count}"));
    let refused = new.collect::<Vec<_>>().join(", ");
    if !refused.is_empty() {
        tracing::info!(refused, "limits refused requests in the last minute");
    }
    *logged = all;
}
