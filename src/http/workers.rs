//! The threads that answer requests: whether each runs, and whether one has ended.
//!
//! A worker is asked in its event loop and not through a connection: a flood of idle connections must not make
//! the watchdog restart a server that is only busy.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::parts;

/// The name of each of them.
pub const WORKER_PART: &str = "HTTP worker";

type Check = oneshot::Sender<()>;

/// The workers of a server.
#[derive(Clone, Default)]
pub struct Workers {
    checks: Arc<Mutex<Vec<mpsc::Sender<Check>>>>,
    ended: Arc<Notify>,
}

impl Workers {
    /// Adds the worker on whose thread this is called.
    pub(super) fn add_this_thread(&self) {
        let (checks, mut asked) = mpsc::channel::<Check>(1);
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(checks);
        let ended = self.ended.clone();
        let on_end = parts::OnDrop::new(move || ended.notify_one());
        actix_web::rt::spawn(async move {
            let _on_end = on_end;
            parts::panic_if_asked(WORKER_PART);
            while let Some(caller) = asked.recv().await {
                let _ = caller.send(());
            }
        });
    }

    /// Waits until every worker has answered; `false` if one has ended.
    pub async fn answer(&self) -> bool {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answers = checks.into_iter().map(|worker| async move {
            let (caller, answer) = oneshot::channel();
            worker.send(caller).await.is_ok() && answer.await.is_ok()
        });
        join_all(answers).await.into_iter().all(|is_answered| is_answered)
    }

    /// Waits until a worker ends.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }
}
