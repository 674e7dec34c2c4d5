//! What signals do: SIGTERM and SIGINT drain a running server and abort one that starts or drains. SIGHUP has the
//! configuration reloaded. SIGUSR1 only leaves a line in the log.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, anyhow};
use tokio::{
    join,
    runtime::Builder,
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::logging;
use crate::parts;

/// The thread that waits for signals.
const PART: &str = "signals";

/// Shells report a process that a signal ended as this plus the number of the signal.
const EXIT_BY_SIGNAL: i32 = 128;

/// Waits for signals on a thread of its own, which answers while everything else drains or hangs.
pub struct Signals {
    is_serving: Arc<AtomicBool>,
    stopped: oneshot::Receiver<()>,
    hangups: mpsc::Receiver<()>,
}

impl Signals {
    /// SIGHUP and SIGUSR1 no longer end the process. SIGTERM and SIGINT still do, until [`Signals::serving`].
    ///
    /// # Errors
    /// If the system has no descriptor or thread left.
    pub fn start() -> anyhow::Result<Self> {
        let is_serving = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = oneshot::channel();
        // One that arrives during a reload asks for another one, and so do ten.
        let (hangup, hangups) = mpsc::channel(1);
        let runtime = Builder::new_current_thread().enable_io().build().context("cannot wait for signals")?;
        let (others, ending) = {
            let _entered = runtime.enter();
            (
                [signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?],
                [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?],
            )
        };
        // The end of the thread drops `stop`, and that ends the server.
        let wait = {
            let is_serving = is_serving.clone();
            move || {
                parts::panic_if_asked(PART);
                runtime.block_on(async {
                    join!(reload_or_ignore(others, hangup), stop_or_abort(ending, &is_serving, stop))
                });
            }
        };
        parts::spawn_thread(PART, || {}, wait)?;
        Ok(Self { is_serving, stopped, hangups })
    }

    /// From now on, the first SIGTERM or SIGINT drains the server. Called before the server answers anything:
    /// whoever has heard from it may stop it.
    pub fn serving(&self) {
        self.is_serving.store(true, Ordering::Release);
    }

    /// Gets an item for each SIGHUP. Can be called once.
    pub fn hangups(&mut self) -> mpsc::Receiver<()> {
        std::mem::replace(&mut self.hangups, mpsc::channel(1).1)
    }

    /// Waits for the first SIGTERM or SIGINT. The second one ends the process at once.
    ///
    /// # Errors
    /// If nothing waits for signals any more.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stopped.await.map_err(|_| anyhow!("the part '{PART}' ended while the server was running"))
    }
}

async fn reload_or_ignore([mut hangup, mut user_defined]: [Signal; 2], reload: mpsc::Sender<()>) {
    loop {
        select! {
            _ = hangup.recv() => {
                let _ = reload.try_send(());
            }
            _ = user_defined.recv() => tracing::info!("SIGUSR1 does nothing"),
        }
    }
}

async fn stop_or_abort([mut term, mut int]: [Signal; 2], is_serving: &AtomicBool, stop: oneshot::Sender<()>) {
    let mut next = async || {
        select! {
            _ = term.recv() => SignalKind::terminate(),
            _ = int.recv() => SignalKind::interrupt(),
        }
    };
    let first = next().await;
    if !is_serving.load(Ordering::Acquire) {
        tracing::warn!("a signal ends the server before it has started");
        abort(first);
    }
    let _ = stop.send(());
    let second = next().await;
    tracing::warn!("a second signal ends the server at once; the next start repairs the database");
    abort(second);
}

#[expect(clippy::disallowed_methods, reason = "the signal ends the process without a drain")]
fn abort(signal: SignalKind) -> ! {
    logging::flush();
    process::exit(EXIT_BY_SIGNAL + signal.as_raw_value())
}
