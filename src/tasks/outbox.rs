//! Sends the outbox: one row after the other to each destination, and to many destinations at once, so that one
//! that is slow or gone delays no other.
//!
//! `destinations` picks the rows to send now. What follows from success and failure is in `ops::outbox`.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{
    Tasks,
    destinations::{DUE_BATCH, Destination, Destinations, Outcome, Row},
    tick,
};
use crate::{
    domain::server_name::ServerName,
    ops::{
        Failure,
        address::suppression,
        outbox::{self, Content, Fate, InvitationContent, Settled},
    },
    parts,
    remote::{
        mail::{InvitationMail, MailError},
        onbind::{ONBIND_RETRY_TIMEOUT, ONBIND_TIMEOUT, OnBind},
    },
    store::StoreError,
};

/// How many batches of due rows are read before the task yields to other events.
const MAX_DUE_BATCHES: usize = 16;
/// After a commit, the due rows are not read again for this many times as long as the last reading took ...
const PAUSE_PER_READ: u32 = 4;
/// ... and never longer than this.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// After this time the worker of a destination sends no further row, so that others get its place.
const MAX_TURN: Duration = Duration::from_secs(30);
/// How long a homeserver may still take to answer an onbind call when the server stops.
const ONBIND_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The worker of one destination.
const WORKER_PART: &str = "outbox worker";

/// Sending one message.
const SENDING: &str = "sending a message";

type Worker = Result<(Destination, Outcome), Failure>;

/// Returns early if a worker panics: its destination would stay busy until the next start.
pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    let mut workers: JoinSet<Worker> = JoinSet::new();
    let mut destinations = Destinations::default();
    loop {
        #[expect(clippy::disallowed_methods, reason = "how long reading takes is real time")]
        let begun = Instant::now();
        for (destination, rows) in pick_due(&tasks, &mut destinations).await {
            let timeout = match destinations.failed_before(&destination) {
                true => ONBIND_RETRY_TIMEOUT,
                false => ONBIND_TIMEOUT,
            };
            destinations.start(destination.clone());
            let (tasks, stop) = (tasks.clone(), stop.clone());
            workers.spawn(async move {
                parts::panic_if_asked(WORKER_PART);
                Ok((destination, send_all(&tasks, rows, timeout, &stop).await?))
            });
        }
        // Under many binds there is a commit all the time, and thousands of rows may be due: this task must not
        // read them all day.
        let pause = (begun.elapsed() * PAUSE_PER_READ).min(MAX_PAUSE);
        let changed = async {
            outbox::changed(&tasks.core).await;
            sleep(pause).await;
        };
        tokio::select! {
            Some(ended) = workers.join_next() => match ended {
                Ok(Ok((destination, outcome))) => {
                    destinations.finish(destination, outcome, tasks.core.clock.now());
                }
                // The destination stays busy. It would get the same message at every retry, because the server
                // cannot record that it was sent.
                Ok(Err(error)) => tracing::error!(
                    %error,
                    "the database failed while a message was sent; nothing more is sent to its destination until the next start: check the disk, then restart the server"
                ),
                Err(_panic) => {
                    tracing::error!(part = WORKER_PART, "a worker panicked; the line before says where");
                    return;
                }
            },
            () = changed => {}
            go_on = tick(tasks.tick, &mut stop) => if !go_on { break },
        }
    }
    // What was handed over must also be recorded, or the next start would send it again.
    while workers.join_next().await.is_some() {}
}

/// The rows to send now, by destination. A row that is too far behind the rows of busy destinations is found the
/// next time.
async fn pick_due(tasks: &Tasks, destinations: &mut Destinations) -> HashMap<Destination, Vec<Row>> {
    let mut picked = HashMap::new();
    for _ in 0..MAX_DUE_BATCHES {
        if !destinations.have_capacity() {
            break;
        }
        let rows = outbox::due(&tasks.core, destinations.cursor().cloned(), DUE_BATCH).await.unwrap_or_else(
            |error| {
                tracing::error!(%error, "the outbox cannot be read");
                Vec::new()
            },
        );
        let has_more = destinations.advance_cursor(&rows);
        let now = tasks.core.clock.now();
        let (late, rows): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|(_, row)| row.is_late(now));
        if !late.is_empty() && settle(tasks, late, Fate::Withdrawn).await.is_err() {
            break;
        }
        destinations.pick(rows, now, &mut picked);
        if !has_more {
            break;
        }
        yield_now().await;
    }
    picked
}

/// Sends the rows of one destination, up to the first failure that the others would share. Rows that were not
/// tried stay as they are.
async fn send_all(
    tasks: &Tasks,
    rows: Vec<Row>,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Result<Outcome, Failure> {
    let mut on_failure = Outcome::Failed;
    #[expect(clippy::disallowed_methods, reason = "how long sending takes is real time")]
    let started = Instant::now();
    for (key, row) in rows {
        if *stop.borrow() || started.elapsed() > MAX_TURN {
            break;
        }
        let sent = match outbox::content(&tasks.core, &key, &row) {
            Ok(Some(content)) => {
                AssertUnwindSafe(send(tasks, content, onbind_timeout, stop))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| {
                        // Strangers choose what a message says. One that makes the code panic must not end the server.
                        tracing::error!(
                            kind = key.kind.as_str(),
                            "a message was not sent, because of a panic: please report the line before"
                        );
                        Some((Fate::Failed, true))
                    })
            }
            Ok(None) => Some((Fate::Withdrawn, true)),
            // Retention deletes what cannot be read. Other messages to this destination do not wait for that.
            Err(Failure::Store(error)) if error.is_unreadable_row() => {
                tracing::error!(kind = key.kind.as_str(), %error, "a message was not sent");
                Some((Fate::Failed, true))
            }
            Err(error) => return Err(error),
        };
        // There is no answer to record, so the next start sends it again.
        let Some((fate, is_reachable)) = sent else { break };
        settle(tasks, vec![(key, row)], fate).await?;
        if !is_reachable {
            return Ok(on_failure);
        }
        on_failure = Outcome::FailedAfterSuccess;
    }
    Ok(Outcome::Succeeded)
}

/// Sends one row; gives what became of it, and whether the destination is worth another try now. `None` if the
/// server stops before a homeserver has answered.
async fn send(
    tasks: &Tasks,
    content: Content,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Option<(Fate, bool)> {
    parts::panic_if_asked(SENDING);
    match content {
        Content::OnBind(user_id, body) => {
            let Some(server) = ServerName::parse(user_id.server_name()) else {
                return Some((Fate::Refused, true));
            };
            let answer = tokio::select! {
                answer = tasks.homeservers.on_bind(&server, &body, onbind_timeout) => answer,
                () = onbind_shutdown(stop.clone()) => return None,
            };
            Some(match answer {
                OnBind::Delivered => (Fate::Delivered, true),
                OnBind::Refused => (Fate::Refused, true),
                OnBind::Failed => (Fate::Failed, false),
            })
        }
        Content::Invitation(content) => {
            let InvitationContent { invitation, described, link, language } = *content;
            let mail = InvitationMail {
                stop: suppression::stop_link(&tasks.core, &invitation.address),
                to: invitation.address,
                sender: invitation.sender,
                described,
                link,
                expire_days: tasks.core.config.invites.expire_days.get(),
                language,
            };
            Some(mail_fate(tasks.mailer.send_invitation(&mail).await))
        }
        Content::OwnerMail(notice) => {
            let stop = suppression::stop_link(&tasks.core, &notice.address);
            Some(mail_fate(tasks.mailer.send_owner_notice(&notice, &stop).await))
        }
    }
}

/// What became of a mail, and whether the relay answers.
fn mail_fate(sent: Result<(), MailError>) -> (Fate, bool) {
    match sent {
        Ok(()) => (Fate::Delivered, true),
        Err(MailError::Temporary | MailError::Deferred) => (Fate::Failed, true),
        Err(MailError::RelayUnreachable) => (Fate::Failed, false),
        Err(MailError::Permanent) => (Fate::Refused, true),
    }
}

/// Ready when the server has been stopping for [`ONBIND_SHUTDOWN_TIMEOUT`].
async fn onbind_shutdown(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and then the server stops, too.
    let _ = stop.wait_for(|stop| *stop).await;
    sleep(ONBIND_SHUTDOWN_TIMEOUT).await;
}

/// Records what became of rows, and logs what an operator should know.
async fn settle(tasks: &Tasks, rows: Vec<Row>, fate: Fate) -> Result<(), Failure> {
    let kinds: Vec<_> = rows.iter().map(|(key, _)| key.kind).collect();
    let settled = match outbox::settle(&tasks.core, rows.clone(), fate).await {
        // Another write of the batch failed, not this one.
        Err(Failure::Store(StoreError::Undone(_))) => outbox::settle(&tasks.core, rows, fate).await,
        settled => settled,
    };
    let settled = settled.inspect_err(|error| {
        tracing::error!(%error, "the result of sending a message could not be recorded");
    })?;
    for (kind, settled) in kinds.into_iter().zip(settled) {
        let kind = kind.as_str();
        match settled {
            Settled::GivenUp => tracing::warn!(kind, "a message was given up after its last retry"),
            Settled::Refused => tracing::warn!(kind, "the other side refused a message; it is not retried"),
            Settled::Delivered | Settled::Waiting | Settled::Withdrawn => {}
        }
        tasks.core.metrics.count_outbox(kind, settled.as_str());
    }
    Ok(())
}
