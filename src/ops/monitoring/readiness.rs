//! Whether the server is ready: the database answers, the writer thread takes work, and the task of the outbox goes
//! on. What the relay said last is told, too, but does not count: lookups go on without it.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{metrics::MailOutcome, ops::Core, store::steps_done};

/// How long the database and the writer thread may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a step of the outbox's task may take. It looks at its rows at least once a second.
const MAX_STEP: Duration = Duration::from_secs(60);

const OK: &str = "ok";

/// Whether the server is ready, with a line about each part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether every part that matters is.
    pub ready: bool,
    /// "ok", or what is wrong, by part.
    #[serde(flatten)]
    pub parts: BTreeMap<String, String>,
}

/// Asks each part.
pub async fn readiness(core: &Core) -> Readiness {
    let needed =
        [("database", database(core).await), ("writer", writer(core).await), ("outbox", outbox(core))];
    let ready = needed.iter().all(|(_, says)| *says == OK);
    let parts = needed.into_iter().map(|(part, says)| (part.to_owned(), says.to_owned()));
    let parts = parts.chain([("relay".to_owned(), relay(core))]).collect();
    Readiness { ready, parts }
}

async fn database(core: &Core) -> &'static str {
    match timeout(ANSWER_TIMEOUT, core.store.scan(|scan| scan.counts())).await {
        Ok(Ok(_)) => OK,
        Ok(Err(_)) => "cannot be read: see the log",
        Err(_) => "does not answer: check the disk",
    }
}

/// During a rewrite, the thread takes no work but finishes steps.
async fn writer(core: &Core) -> &'static str {
    let steps = steps_done();
    match timeout(ANSWER_TIMEOUT, core.check_writer()).await {
        Ok(true) => OK,
        Ok(false) => "has ended: see the log",
        Err(_) if steps_done() != steps => OK,
        Err(_) => "does not answer: check the disk",
    }
}

fn outbox(core: &Core) -> &'static str {
    match core.monitor.since_beat() {
        None => "has not begun yet",
        Some(age) if age > MAX_STEP => "has been stuck for a minute: see the log",
        Some(_) => OK,
    }
}

fn relay(core: &Core) -> String {
    let Some((outcome, at)) = core.metrics.last_mail() else { return "no mail since the start".to_owned() };
    let said = match outcome {
        MailOutcome::Accepted => "accepted the last mail",
        MailOutcome::Deferred => "refused the last mail for now",
        MailOutcome::Rejected => "refused the last mail",
        MailOutcome::Unanswered => "gave no answer to the last mail",
        MailOutcome::Unreachable => "could not be reached for the last mail",
    };
    format!("{said}, at {} UTC", at.utc())
}
