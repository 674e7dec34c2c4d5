//! Deletes what has expired: one round at the start and then one every ten minutes, by the clock.
//!
//! A wrong clock would delete what is not old. So rounds halt with an alarm when the clock jumps by more than a
//! day, until it is right again or the operator confirms it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::watch, task::spawn_blocking};

use super::{Tasks, tick};
use crate::{
    domain::{
        retention::ROUND,
        time::{DAY, Millis},
    },
    ops::{Core, account::tokens, backup, retention},
    remote::spool,
};

/// After a longer downtime, the operator must confirm that the clock is right.
const MAX_DOWNTIME: Duration = Duration::from_secs(31 * DAY.as_secs());

pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    let core = &tasks.core;
    let mut next = core.clock.now();
    let mut guard = ClockGuard::at_start(core);
    let mut backups = BackupAlarm::default();
    loop {
        let now = core.clock.now();
        guard.check(core, now, time_since_boot());
        // A wrong clock would make tokens look unused for years, or used in years to come.
        if !core.retention.is_halted()
            && let Err(error) = tokens::store_uses(core, now).await
        {
            tracing::error!(%error, "the last use of tokens could not be saved; tokens in use may expire too early");
        }
        if now >= next && !core.retention.is_halted() {
            tokio::select! {
                () = round(&tasks, now) => {}
                // Between two steps; the next start goes on.
                _ = stop.wait_for(|stop| *stop) => return,
            }
            next = core.clock.now().after(ROUND);
            backups.check(core, now);
        }
        // A clock that went back a little must not put off the next round.
        next = next.min(now.after(ROUND));
        if !tick(tasks.tick, &mut stop).await {
            return;
        }
    }
}

/// Compares the clock with the time since boot, which no one can set, and halts rounds after a jump.
struct ClockGuard {
    /// The clock at the last check that it passed.
    clock: Millis,
    /// The time since boot then.
    since_boot: Duration,
    /// How much further than the time since boot the clock may have moved.
    tolerance: Duration,
    is_suspect: bool,
}

impl ClockGuard {
    /// Continues from the last round of the previous run. A new database has none: a machine may start with a
    /// clock that was never set and set it a moment later.
    fn at_start(core: &Core) -> Self {
        let last_round = retention::last_round(core).ok().flatten();
        let tolerance = if last_round.is_some() { MAX_DOWNTIME } else { DAY };
        let clock = last_round.unwrap_or_else(|| core.clock.now());
        Self { clock, since_boot: time_since_boot(), tolerance, is_suspect: false }
    }

    fn check(&mut self, core: &Core, now: Millis, since_boot: Duration) {
        let is_plausible = self.is_plausible(now, since_boot);
        match (is_plausible, self.is_suspect) {
            (false, false) => {
                self.is_suspect = true;
                core.retention.halt();
                tracing::error!(
                    "expired data is not deleted: the clock jumped by more than a day, or the server was off for more than a month; if the clock is wrong, set it; if it is right, run 'bindery retention run'"
                );
            }
            (true, true) => {
                core.retention.resume();
                tracing::info!("the clock is right again, and what has expired is deleted again");
            }
            _ => {}
        }
        if is_plausible || !core.retention.is_halted() {
            *self = Self { clock: now, since_boot, tolerance: DAY, is_suspect: false };
        }
        core.metrics.show_retention_halted(core.retention.is_halted());
    }

    fn is_plausible(&self, now: Millis, since_boot: Duration) -> bool {
        let expected = self.clock.after(since_boot.saturating_sub(self.since_boot));
        now.after(DAY) >= expected && now <= expected.after(self.tolerance)
    }
}

/// Warns once a day if no backup was made for two days.
#[derive(Default)]
struct BackupAlarm {
    warned: Option<Millis>,
}

impl BackupAlarm {
    fn check(&mut self, core: &Core, now: Millis) {
        let is_due = self.warned.is_none_or(|warned| now < warned || now >= warned.after(DAY));
        match backup::is_overdue(core, now) {
            Ok(true) if is_due => {
                tracing::warn!(
                    "backup.directory is set, and the last backup is over two days old: does the timer run ('systemctl list-timers'), and what does 'bindery backup' say?"
                );
                self.warned = Some(now);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the database could not be asked when the last backup was made")
            }
        }
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
    let unlinked = spawn_blocking(unlink)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("deleting the files panicked")));
    if let Err(error) = &unlinked {
        tracing::error!(%error, "an expired log file or mail file could not be deleted; check the permissions in data_dir");
    }
    match deleted {
        Ok(deleted) if unlinked.is_ok() => {
            tracing::debug!(?deleted, "what had expired was deleted");
            core.metrics.show_retention_success(now);
        }
        Ok(_) => {}
        Err(error) => {
            tracing::error!(%error, "what has expired could not be deleted; the next round retries it");
        }
    }
    match retention::is_overdue(core) {
        Ok(is_overdue) => {
            core.metrics.show_rewrite_overdue(is_overdue);
            if is_overdue {
                tracing::error!(
                    "the bytes of deleted rows are in the database file for longer than privacy.deleted_binding_days, because the rewrite fails: see the errors before this line"
                );
            }
        }
        Err(error) => {
            tracing::error!(%error, "the database could not be asked whether its rewrite is overdue")
        }
    }
}

/// The time since the machine started, sleep included.
fn time_since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_more_or_less_is_a_jump() {
        let (start, hour) = (Millis(1_800_000_000_000), Duration::from_secs(3600));
        let guard = |tolerance| ClockGuard { clock: start, since_boot: hour, tolerance, is_suspect: false };
        let is_plausible = |now, since_boot| guard(DAY).is_plausible(now, since_boot);
        assert!(is_plausible(start.after(hour), 2 * hour));
        assert!(is_plausible(start.after(25 * hour), 2 * hour));
        assert!(!is_plausible(start.after(25 * hour + Duration::from_millis(1)), 2 * hour));
        assert!(is_plausible(start.before(23 * hour).expect("a time"), 2 * hour));
        assert!(!is_plausible(start.before(24 * hour).expect("a time"), 2 * hour));
        assert!(is_plausible(start.after(90 * DAY), 90 * DAY + hour), "the machine slept");
        assert!(guard(MAX_DOWNTIME).is_plausible(start.after(31 * DAY), hour), "it was off for a month");
        assert!(!guard(MAX_DOWNTIME).is_plausible(start.after(32 * DAY), hour));
    }
}
