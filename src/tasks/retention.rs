//! Makes the periods true: a round at the start and then every ten minutes, by the clock.
//!
//! A wrong clock would delete what is not old, so when the clock has gone a day further than time
//! has, or back, the rounds stop with an alarm until it is right again, or the operator says that it is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::watch, task::spawn_blocking};

use super::{Tasks, tick};
use crate::{
    domain::{
        retention::ROUND,
        time::{DAY, Millis},
    },
    ops::{Core, account::tokens, retention},
    remote::spool,
};

/// For how long a server may have been off without the operator being asked whether the time is right.
const LONG_OFF: Duration = Duration::from_secs(31 * DAY.as_secs());

pub async fn run(tasks: &Tasks, mut stop: watch::Receiver<bool>) {
    let core = &tasks.core;
    let mut next = core.clock.now();
    let mut sight = Sight::at_start(core);
    loop {
        let now = core.clock.now();
        sight.look(core, now, real_time());
        // By a clock that is not believed, a token would seem to be unused for years, or used in some to come.
        if !core.retention.is_halted()
            && let Err(error) = tokens::note_uses(core, now).await
        {
            tracing::error!(%error, "it could not be noted which tokens were used");
        }
        if now >= next && !core.retention.is_halted() {
            tokio::select! {
                () = round(tasks, now) => {}
                // Between two steps; the next start goes on.
                _ = stop.wait_for(|stop| *stop) => return,
            }
            next = core.clock.now().after(ROUND);
        }
        // A clock that went back a little must not put off the next round.
        next = next.min(now.after(ROUND));
        if !tick(tasks.tick, &mut stop).await {
            return;
        }
    }
}

/// What the clock said when it was last believed.
struct Sight {
    clock: Millis,
    real: Duration,
    /// How much further than time the clock may have gone since.
    ahead: Duration,
    is_doubted: bool,
}

impl Sight {
    /// A machine may start with a clock that was never set, and then has one that is.
    fn at_start(core: &Core) -> Self {
        let (now, real) = (core.clock.now(), real_time());
        let last_round = retention::last_round(core).ok().flatten();
        let ahead = if last_round.is_some() { LONG_OFF } else { DAY };
        Self { clock: last_round.unwrap_or(now), real, ahead, is_doubted: false }
    }

    /// Looks at the clock, and has rounds rest for as long as it is not believed: until it is right
    /// again, or the operator says that it is.
    fn look(&mut self, core: &Core, now: Millis, real: Duration) {
        let is_likely = self.is_likely(now, real);
        match (is_likely, self.is_doubted) {
            (false, false) => {
                self.is_doubted = true;
                core.retention.halt();
                tracing::error!(
                    "the clock has jumped by more than a day: nothing is deleted for its age until it is right again, or until you say that it is: 'bindery retention run'"
                );
            }
            (true, true) => {
                core.retention.resume();
                tracing::info!("the clock is right again, and so is deleting what has reached its age");
            }
            _ => {}
        }
        if is_likely || !core.retention.is_halted() {
            *self = Self { clock: now, real, ahead: DAY, is_doubted: false };
        }
        core.metrics.show_retention_halted(core.retention.is_halted());
    }

    fn is_likely(&self, now: Millis, real: Duration) -> bool {
        let expected = self.clock.after(real.saturating_sub(self.real));
        now.after(DAY) >= expected && now <= expected.after(self.ahead)
    }
}

async fn round(tasks: &Tasks, now: Millis) {
    let core = &tasks.core;
    let deleted = retention::round(core, now).await;
    let (config, logs) = (core.config.clone(), core.logs.clone());
    let unlink = move || {
        spool::remove_old(&config.mail_directory())?;
        spool::remove_old(&config.sms_directory())?;
        logs.unlink_expired(now)
    };
    let unlinked = spawn_blocking(unlink).await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    if let Err(error) = &unlinked {
        tracing::error!(%error, "a log, or a mail that was written into a file, could not be removed at its age");
    }
    match deleted {
        Ok(deleted) if unlinked.is_ok() => {
            tracing::debug!(?deleted, "what had reached its age was deleted");
            core.metrics.show_retention_round(now);
        }
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "what has reached its age could not be deleted"),
    }
    match retention::is_overdue(core) {
        Ok(is_overdue) => {
            core.metrics.show_rewrite_overdue(is_overdue);
            if is_overdue {
                tracing::error!(
                    "what was removed is in the database for longer than privacy.deleted_binding_days, because the file could not be rewritten: see the errors before this one"
                );
            }
        }
        Err(error) => tracing::error!(%error, "it is not known whether the database must be rewritten"),
    }
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
        let (start, hour) = (Millis(1_800_000_000_000), Duration::from_secs(3600));
        let sight = |ahead| Sight { clock: start, real: hour, ahead, is_doubted: false };
        let likely = |now, real| sight(DAY).is_likely(now, real);
        assert!(likely(start.after(hour), 2 * hour));
        assert!(likely(start.after(25 * hour), 2 * hour));
        assert!(!likely(start.after(25 * hour + Duration::from_millis(1)), 2 * hour));
        assert!(likely(start.before(23 * hour).expect("a time"), 2 * hour));
        assert!(!likely(start.before(24 * hour).expect("a time"), 2 * hour));
        assert!(likely(start.after(90 * DAY), 90 * DAY + hour), "the machine slept");
        assert!(sight(LONG_OFF).is_likely(start.after(31 * DAY), hour), "it was off for a month");
        assert!(!sight(LONG_OFF).is_likely(start.after(32 * DAY), hour));
    }
}
