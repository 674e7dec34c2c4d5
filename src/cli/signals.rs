//! What signals do to a running server: SIGTERM and SIGINT drain it, a second one of them aborts it, SIGHUP and
//! SIGUSR1 only leave a line in the log.

use std::process;

use anyhow::{Context, anyhow};
use tokio::{
    join,
    runtime::Builder,
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::logging;
use crate::parts;

/// The thread that waits for signals.
const PART: &str = "signals";

/// Shells report a process that a signal ended as this plus the number of the signal.
const EXIT_BY_SIGNAL: i32 = 128;

/// Waits for signals on a thread of its own, which answers while everything else drains or hangs.
pub struct Signals {
    begin: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Signals {
    /// SIGHUP and SIGUSR1 no longer end the process. SIGTERM and SIGINT still do, until [`Signals::stop`].
    ///
    /// # Errors
    /// If the system has no descriptor or thread left.
    pub fn start() -> anyhow::Result<Self> {
        let (begin, begun) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_io().build().context("cannot wait for signals")?;
        let ignored = {
            let _entered = runtime.enter();
            (signal(SignalKind::hangup())?, signal(SignalKind::user_defined1())?)
        };
        // The end of the thread drops `stop`, and that ends the server.
        let wait = move || {
            parts::panic_if_asked(PART);
            runtime.block_on(async { join!(ignore(ignored), stop_or_abort(begun, stop)) });
        };
        parts::spawn_thread(PART, || {}, wait)?;
        Ok(Self { begin, stopped })
    }

    /// Waits for the first SIGTERM or SIGINT. The second one ends the process at once.
    ///
    /// # Errors
    /// If nothing waits for signals any more.
    pub async fn stop(self) -> anyhow::Result<()> {
        let _ = self.begin.send(());
        self.stopped.await.map_err(|_| anyhow!("the part '{PART}' ended while the server was running"))
    }
}

async fn ignore((mut hangup, mut user_defined): (Signal, Signal)) {
    loop {
        select! {
            _ = hangup.recv() => {
                tracing::warn!("SIGHUP reloads nothing yet; restart to read the configuration again");
            }
            _ = user_defined.recv() => tracing::info!("SIGUSR1 does nothing"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a second signal ends the process without a drain")]
async fn stop_or_abort(begun: oneshot::Receiver<()>, stop: oneshot::Sender<()>) {
    let Ok(()) = begun.await else { return };
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    let mut next = async || {
        select! {
            _ = term.recv() => SignalKind::terminate(),
            _ = int.recv() => SignalKind::interrupt(),
        }
    };
    next().await;
    let _ = stop.send(());
    let second = next().await;
    tracing::warn!("a second signal ends the server at once; the next start repairs the database");
    logging::flush();
    process::exit(EXIT_BY_SIGNAL + second.as_raw_value());
}
