//! Notifies the service manager (sd_notify): start timeout, ready, watchdog, stopping.
//!
//! A notification that cannot be sent is ignored: systemd then acts on its own timeout.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use sd_notify::NotifyState;
use tokio::{
    join,
    time::{sleep, timeout},
};

use crate::{http::Workers, ops::Core, store::steps_done};

/// How long the next step of a repair or migration may take.
const START_EXTENSION: Duration = Duration::from_secs(120);
/// How often a start looks for a finished step.
const START_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Says that requests are answered.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Says that the server drains.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// Says that the configuration is being reloaded, until it is dropped.
pub struct Reloading(());

impl Reloading {
    /// Says so. Must be said only by a server that is ready.
    pub fn begin() -> Self {
        // `Type=notify-reload` wants the time, to know that this is about its signal.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
        }
        Self(())
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        ready();
    }
}

/// Runs `open`, and extends the start timeout whenever a step of a repair or migration is over.
pub fn extend_start_timeout<T>(open: impl FnOnce() -> T) -> T {
    let (opened, waiting) = mpsc::channel::<()>();
    // Read before the thread starts, because `open` may be quicker.
    let mut seen = steps_done();
    thread::scope(|scope| {
        let extend = move || {
            loop {
                let is_open = waiting.recv_timeout(START_CHECK_INTERVAL) != Err(RecvTimeoutError::Timeout);
                let steps = steps_done();
                if steps != seen {
                    let micros = u32::try_from(START_EXTENSION.as_micros()).unwrap_or(u32::MAX);
                    let _ = sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(micros)]);
                }
                if is_open {
                    return;
                }
                seen = steps;
            }
        };
        // Without the thread the start has the time that the unit gives it.
        let _ = thread::Builder::new().name("start timeout".to_owned()).spawn_scoped(scope, extend);
        let store = open();
        drop(opened);
        store
    })
}

/// Sends `WATCHDOG=1` while the server is alive: every HTTP worker answers, and the writing thread takes an empty
/// job or finishes steps of a long one. Returns only if no watchdog is set.
pub async fn feed_watchdog(core: Arc<Core>, workers: Workers) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    // A check lasts an interval at most, and so does the pause: a ping leaves at half of the limit, as systemd
    // advises.
    let interval = limit / 4;
    let mut writer = WriterCheck::new(
        move || {
            let core = core.clone();
            async move { core.check_writer().await }.boxed()
        },
        steps_done,
    );
    loop {
        let (http, writer) = join!(timeout(interval, workers.answer()), writer.is_alive(interval));
        let http = http.unwrap_or(false);
        if http && writer {
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                http,
                writer,
                "the request threads (http) or the writer thread (writer) do not respond; if this lasts for WatchdogSec, systemd restarts the server; check the CPU and the disk"
            );
        }
        sleep(interval).await;
    }
}

/// Asks the writing thread again and again whether it is alive.
struct WriterCheck<J, S> {
    new_job: J,
    steps: S,
    /// A writer that is busy has one empty job in its queue and not one for each interval.
    job: BoxFuture<'static, bool>,
    seen: u64,
}

impl<J: Fn() -> BoxFuture<'static, bool>, S: Fn() -> u64> WriterCheck<J, S> {
    fn new(new_job: J, steps: S) -> Self {
        let (job, seen) = (new_job(), steps());
        Self { new_job, steps, job, seen }
    }

    async fn is_alive(&mut self, limit: Duration) -> bool {
        let taken = timeout(limit, &mut self.job).await;
        let steps = (self.steps)();
        let has_progressed = std::mem::replace(&mut self.seen, steps) != steps;
        match taken {
            Ok(is_taken) => {
                self.job = (self.new_job)();
                is_taken
            }
            Err(_) => has_progressed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_writer_is_alive_if_it_takes_jobs_or_finishes_steps() {
        const LIMIT: Duration = Duration::from_millis(20);
        let (jobs, steps) = (Arc::new(Semaphore::new(1)), AtomicU64::new(7));
        let take = || {
            let jobs = jobs.clone();
            async move { jobs.acquire().await.map(|permit| permit.forget()).is_ok() }.boxed()
        };
        let mut check = WriterCheck::new(take, || steps.load(Ordering::Relaxed));
        assert!(check.is_alive(LIMIT).await, "it takes a job");
        assert!(!check.is_alive(LIMIT).await, "it is stuck");
        steps.fetch_add(1, Ordering::Relaxed);
        assert!(check.is_alive(LIMIT).await, "it is slow");
        assert!(!check.is_alive(LIMIT).await, "it is stuck again");
        jobs.add_permits(1);
        assert!(check.is_alive(LIMIT).await, "it takes the job that was in its queue");
        jobs.close();
        assert!(!check.is_alive(LIMIT).await, "it has ended");
    }
}
