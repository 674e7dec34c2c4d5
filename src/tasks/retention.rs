//! Makes the periods true: a round at the start and then every ten minutes, by the clock.
//!
//! A wrong clock would delete what is not old, so when the clock has gone a day further than time
//! has, or back, the rounds stop with an alarm until the operator says that the time is right.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::watch, task::spawn_blocking};

use super::{Tasks, tick};
use crate::{
    domain::time::{DAY, Millis, as_millis},
    logs,
    ops::{Core, accounts, retention},
};

/// How long it is from one round to the next.
const INTERVAL: Duration = Duration::from_secs(600);

pub async fn run(tasks: &Tasks, mut stop: watch::Receiver<bool>) {
    let core = &tasks.core;
    let mut next = core.clock.now();
    let (mut last, mut last_real) = (next, real_time());
    // A machine that starts with an unset clock is back in the past.
    if let Ok(Some(before)) = core.store.read().last_round()
        && has_jumped(before, last.min(before), Duration::ZERO)
    {
        halt(core);
    }
    loop {
        if let Err(error) = accounts::note_uses(core).await {
            tracing::error!(%error, "it could not be noted which tokens were used");
        }
        let (now, real) = (core.clock.now(), real_time());
        let elapsed = real.saturating_sub(last_real);
        if has_jumped(last, now, elapsed) && !core.retention.is_halted() {
            halt(core);
        }
        (last, last_real) = (now, real);
        core.metrics.show_retention_halted(core.retention.is_halted());
        if now >= next && !core.retention.is_halted() {
            round(tasks).await;
            next = core.clock.now().after(INTERVAL);
        }
        // A clock that went back a little must not put off the next round.
        next = next.min(now.after(INTERVAL));
        if !tick(tasks.tick, &mut stop).await {
            return;
        }
    }
}

fn halt(core: &Core) {
    core.retention.halt();
    tracing::error!(
        "the clock has jumped by more than a day: nothing is deleted for its age any more; when the time is right, run 'bindery retention run'"
    );
}

async fn round(tasks: &Tasks) {
    let core = &tasks.core;
    let begun = core.clock.now();
    let deleted = retention::round(core).await;
    let (config, now) = (core.config.clone(), core.clock.now());
    let unlink = move || logs::unlink_expired(&config.data_dir, now, &config.privacy);
    let unlinked = spawn_blocking(unlink).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = &unlinked {
        tracing::error!(%error, "a log that has reached its age could not be removed");
    }
    match deleted {
        Ok(deleted) if unlinked.is_ok() => {
            tracing::debug!(?deleted, "what had reached its age was deleted");
            core.metrics.show_retention_round(begun);
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "what has reached its age could not be deleted"),
    }
}

/// Whether the clock has gone on by a day more or less than time has.
fn has_jumped(last: Millis, now: Millis, elapsed: Duration) -> bool {
    let expected = last.after(elapsed);
    now.0.abs_diff(expected.0) > as_millis(DAY)
}

/// The time since the machine started, sleep included, which nobody can set.
fn real_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_more_or_less_is_a_jump() {
        let start = Millis(1_800_000_000_000);
        let hour = Duration::from_secs(3600);
        assert!(!has_jumped(start, start.after(hour), hour));
        assert!(!has_jumped(start, start.after(25 * hour), hour));
        assert!(has_jumped(start, start.after(25 * hour + Duration::from_millis(1)), hour));
        assert!(!has_jumped(start.after(23 * hour), start, hour));
        assert!(has_jumped(start.after(24 * hour), start, hour));
        assert!(!has_jumped(start, start.after(90 * 24 * hour), 90 * 24 * hour), "the machine slept");
    }
}
