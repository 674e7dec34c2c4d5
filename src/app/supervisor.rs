//! Watches every part of the running server by name. The privacy promises depend on each of them, so one that
//! ends before its time ends the server.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

use anyhow::anyhow;
use futures_util::FutureExt;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::parts;

/// The parts that run.
pub struct Supervisor {
    runtime: Handle,
    parts: JoinSet<(&'static str, End)>,
    running: BTreeSet<&'static str>,
    /// The server takes no new requests.
    is_draining: watch::Sender<bool>,
    /// The requests that had begun are finished, so that the parts may end.
    stop: watch::Sender<bool>,
    ended_threads: mpsc::UnboundedReceiver<&'static str>,
    report: mpsc::UnboundedSender<&'static str>,
}

/// How a part ended.
enum End {
    Returned,
    Failed(anyhow::Error),
    Panicked,
}

impl Supervisor {
    /// Runs the parts on `runtime`.
    pub fn new(runtime: Handle) -> Self {
        let (report, ended_threads) = mpsc::unbounded_channel();
        let (parts, running) = (JoinSet::new(), BTreeSet::new());
        let (is_draining, stop) = (watch::Sender::new(false), watch::Sender::new(false));
        Self { runtime, parts, running, is_draining, stop, ended_threads, report }
    }

    /// Becomes `true` when the parts must end.
    pub fn stop(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// What a thread calls with its name when it ends.
    pub fn on_thread_end(&self) -> impl Fn(&'static str) + Clone + Send + 'static {
        let report = self.report.clone();
        move |name| {
            // While the server stops, this is how a thread should end.
            let _ = report.send(name);
        }
    }

    /// Starts a part that ends by itself when it is told to stop.
    pub fn watch(
        &mut self,
        name: &'static str,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.spawn(name, async move {
            parts::panic_if_asked(name);
            part.await
        });
    }

    /// Starts what is dropped when the server begins to drain, like the watch over a thread.
    pub fn watch_until_drain(
        &mut self,
        name: &'static str,
        part: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let mut is_draining = self.is_draining.subscribe();
        self.spawn(name, async move {
            tokio::select! {
                ended = part => ended,
                _ = is_draining.wait_for(|is_draining| *is_draining) => Ok(()),
            }
        });
    }

    fn spawn(&mut self, name: &'static str, part: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let watched = AssertUnwindSafe(part).catch_unwind().map(move |ended| match ended {
            Ok(Ok(())) => (name, End::Returned),
            Ok(Err(error)) => (name, End::Failed(error)),
            Err(_panic) => (name, End::Panicked),
        });
        self.running.insert(name);
        self.parts.spawn_on(watched, &self.runtime);
    }

    /// Waits for the first part that ends, logs its name, and gives the error to end the server with.
    pub async fn first_end(&mut self) -> anyhow::Error {
        let (name, end) = tokio::select! {
            Some(name) = self.ended_threads.recv() => (name, End::Returned),
            Some(Ok(ended)) = self.parts.join_next() => ended,
        };
        self.running.remove(name);
        let error = match end {
            End::Returned => anyhow!("the part '{name}' ended while the server was running"),
            End::Panicked => anyhow!("the part '{name}' panicked"),
            End::Failed(error) => error.context(format!("the part '{name}' failed")),
        };
        let reason = format!("{error:#}");
        tracing::error!(part = name, reason, "the server stops, because a part of it has ended");
        error
    }

    /// Waits until `requests` are finished, then tells the parts to end and waits for at most `limit`.
    ///
    /// # Errors
    /// If one panics meanwhile.
    pub async fn drain(mut self, requests: impl Future, limit: Duration) -> anyhow::Result<()> {
        self.is_draining.send_replace(true);
        requests.await;
        self.stop.send_replace(true);
        let mut outcome = Ok(());
        let all_ended = async {
            while let Some(ended) = self.parts.join_next().await {
                let Ok((name, end)) = ended else { continue };
                self.running.remove(name);
                if let End::Panicked = end {
                    tracing::error!(part = name, "a part panicked while the server stopped");
                    outcome = Err(anyhow!("the part '{name}' panicked while the server stopped"));
                }
            }
        };
        if timeout(limit, all_ended).await.is_err() {
            tracing::warn!(parts = ?self.running, "these parts did not end in time; the server stops all the same");
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_part_that_ends_is_named() {
        let parts: [(_, fn(&mut Supervisor)); 4] = [
            ("the part 'returns' ended", |supervisor| supervisor.watch("returns", async { Ok(()) })),
            ("'fails' failed: no disk", |supervisor| {
                supervisor.watch_until_drain("fails", async { Err(anyhow!("no disk")) });
            }),
            ("'panics' panicked", |supervisor| supervisor.watch("panics", async { panic!("on purpose") })),
            ("'thread' ended", |supervisor| supervisor.on_thread_end()("thread")),
        ];
        for (expected, start) in parts {
            let mut supervisor = Supervisor::new(Handle::current());
            supervisor.watch("lives on", std::future::pending());
            start(&mut supervisor);
            let error = format!("{:#}", supervisor.first_end().await);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn draining_is_bounded_and_tells_of_a_panic() {
        let mut supervisor = Supervisor::new(Handle::current());
        supervisor.watch_until_drain("until the drain", std::future::pending());
        let mut stop = supervisor.stop();
        supervisor.watch("panics at the end", async move {
            let _ = stop.wait_for(|stop| *stop).await;
            panic!("on purpose")
        });
        let error =
            supervisor.drain(async {}, Duration::from_secs(60)).await.expect_err("it panicked").to_string();
        assert!(error.contains("'panics at the end'"), "{error}");
        let mut supervisor = Supervisor::new(Handle::current());
        supervisor.watch("never ends", std::future::pending());
        supervisor.drain(async {}, Duration::from_millis(1)).await.expect("it goes on all the same");
    }
}
