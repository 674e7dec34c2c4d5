//! Sends the outbox: one row after the other to each homeserver, mails by as many connections as the operator allows,
//! and to many destinations at once, so that one that is slow or gone delays no other.
//!
//! `destinations` picks the rows to send now. What follows from success and failure is in `ops::outbox`.

use std::{
    collections::HashMap,
    future::ready,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, stream};
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{
    Tasks,
    destinations::{DUE_BATCH, Destination, Destinations, Outcome},
    tick,
};
use crate::{
    domain::{outbox::Kind, server_name::ServerName, time::Millis},
    ops::{
        Failure,
        address::suppression,
        outbox::{self, Content, Due, Fate, InvitationContent, Settled},
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
/// After so many mails in a row about which the relay says nothing, the others to this domain wait.
const MAX_UNANSWERED: usize = 3;
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
    // At the start, the clock may have been put back while the server was off.
    let mut latest = Millis(u64::MAX);
    loop {
        let now = tasks.core.clock.now();
        // The clock was put back.
        if now < latest
            && let Err(error) = outbox::redate(&tasks.core).await
        {
            tracing::error!(%error, "the outbox cannot be read");
        }
        latest = now;
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
                let outcome = send_all(&tasks, &destination, rows, timeout, &stop).await?;
                Ok((destination, outcome))
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
async fn pick_due(tasks: &Tasks, destinations: &mut Destinations) -> HashMap<Destination, Vec<Due>> {
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
        let (late, rows): (Vec<Due>, Vec<Due>) = rows.into_iter().partition(|due| due.row.is_late(now));
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
    destination: &Destination,
    rows: Vec<Due>,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Result<Outcome, Failure> {
    #[expect(clippy::disallowed_methods, reason = "how long sending takes is real time")]
    let started = Instant::now();
    let has_ended = AtomicBool::new(false);
    let may_go_on =
        |_: &Due| ready(!has_ended.load(Relaxed) && !*stop.borrow() && started.elapsed() <= MAX_TURN);
    let parallel = if destination.is_mail() { tasks.mailer.max_for_domain() } else { 1 };
    let mut sending = stream::iter(rows)
        .take_while(may_go_on)
        .map(|due| send_and_settle(tasks, due, onbind_timeout, stop))
        .buffer_unordered(parallel);
    let (mut unanswered, mut has_answered, mut ended_by) = (0, false, Ok(Heard::Answer));
    // What is on its way is also recorded after a failure, or it would be sent again.
    while let Some(heard) = sending.next().await {
        match heard {
            Ok(Heard::Answer) => (unanswered, has_answered) = (0, true),
            Ok(Heard::Silence) => {
                unanswered += 1;
                has_ended.fetch_or(unanswered >= MAX_UNANSWERED, Relaxed);
            }
            Ok(Heard::Unreachable | Heard::Stop) | Err(_) => {
                has_ended.store(true, Relaxed);
                ended_by = heard;
            }
        }
    }
    Ok(match ended_by? {
        Heard::Unreachable if destination.is_mail() && !has_answered => Outcome::RelayUnreachable,
        Heard::Unreachable if has_answered => Outcome::FailedAfterSuccess,
        Heard::Unreachable => Outcome::Failed,
        _ if unanswered >= MAX_UNANSWERED && has_answered => Outcome::FailedAfterSuccess,
        _ if unanswered >= MAX_UNANSWERED => Outcome::Failed,
        _ if unanswered > 0 && !has_answered => Outcome::Unanswered,
        _ => Outcome::Succeeded,
    })
}

/// What a destination said to a row.
enum Heard {
    /// Something; the next row may follow.
    Answer,
    /// Nothing about this mail.
    Silence,
    /// The destination cannot be reached, so the next row would fail as well.
    Unreachable,
    /// The server stops, and the row was not sent.
    Stop,
}

/// Sends a row and records the result.
async fn send_and_settle(
    tasks: &Tasks,
    due: Due,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Result<Heard, Failure> {
    let kind = due.key.kind.as_str();
    let (fate, heard) = match outbox::content(&tasks.core, &due.key, &due.row) {
        Ok(Some(content)) => {
            let sent = send(tasks, content, &due.host, onbind_timeout, stop);
            let sent = AssertUnwindSafe(sent).catch_unwind().await;
            let sent = sent.unwrap_or_else(|_| {
                // Strangers choose what a message says. One that makes the code panic must not end the server.
                tracing::error!(
                    kind,
                    "a message was not sent, because of a panic: please report the line before"
                );
                Some((Fate::Failed, Heard::Answer))
            });
            // There is no answer to record, so the next start sends it again.
            let Some(sent) = sent else { return Ok(Heard::Stop) };
            sent
        }
        Ok(None) => (Fate::Withdrawn, Heard::Answer),
        // Retention deletes what cannot be read. Other messages to this destination do not wait for that.
        Err(Failure::Store(error)) if error.is_unreadable_row() => {
            tracing::error!(kind, %error, "a message was not sent");
            (Fate::Failed, Heard::Answer)
        }
        Err(error) => return Err(error),
    };
    settle(tasks, vec![due], fate).await?;
    Ok(heard)
}

/// Sends one message; gives what became of it. `None` if the server stops before it is sent, or before a homeserver
/// has answered.
async fn send(
    tasks: &Tasks,
    content: Content,
    host: &str,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Option<(Fate, Heard)> {
    parts::panic_if_asked(SENDING);
    let place = async |kind| {
        tokio::select! {
            place = tasks.mailer.queue_place(kind, host) => Some(place),
            () = stopped(stop.clone()) => None,
        }
    };
    match content {
        Content::OnBind(user_id, body) => {
            let Some(server) = ServerName::parse(user_id.server_name()) else {
                return Some((Fate::Refused, Heard::Answer));
            };
            let answer = tokio::select! {
                answer = tasks.homeservers.on_bind(&server, &body, onbind_timeout) => answer,
                () = onbind_shutdown(stop.clone()) => return None,
            };
            Some(match answer {
                OnBind::Delivered => (Fate::Delivered, Heard::Answer),
                OnBind::Refused => (Fate::Refused, Heard::Answer),
                OnBind::Failed => (Fate::Failed, Heard::Unreachable),
            })
        }
        Content::Invitation(content) => {
            let InvitationContent { to, sender, described, link, language } = *content;
            let mail = InvitationMail {
                stop: suppression::stop_link(&tasks.core, &to),
                to,
                sender,
                described,
                link,
                expire_days: tasks.core.config.invites.expire_days.get(),
                language,
            };
            let place = place(Kind::InvitationMail).await?;
            Some(mail_fate(tasks.mailer.send_invitation(&mail, place).await))
        }
        Content::NoMail => {
            let imitated = tokio::select! {
                imitated = outbox::imitate_mail(&tasks.core) => imitated,
                () = stopped(stop.clone()) => return None,
            };
            Some((imitated.map_or(Fate::Failed, |()| Fate::Withdrawn), Heard::Answer))
        }
        Content::OwnerMail(notice) => {
            let link = suppression::stop_link(&tasks.core, &notice.address);
            let place = place(Kind::OwnerMail).await?;
            Some(mail_fate(tasks.mailer.send_owner_notice(&notice, &link, place).await))
        }
    }
}

/// What became of a mail, and whether the relay answers.
fn mail_fate(sent: Result<(), MailError>) -> (Fate, Heard) {
    match sent {
        Ok(()) => (Fate::Delivered, Heard::Answer),
        Err(MailError::Temporary | MailError::SenderRefused) => (Fate::Failed, Heard::Answer),
        Err(MailError::Unanswered) => (Fate::Failed, Heard::Silence),
        Err(MailError::RelayUnreachable) => (Fate::Failed, Heard::Unreachable),
        Err(MailError::Permanent) => (Fate::Refused, Heard::Answer),
    }
}

/// Ready when the server stops.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and then the server stops, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ready when the server has been stopping for [`ONBIND_SHUTDOWN_TIMEOUT`].
async fn onbind_shutdown(stop: watch::Receiver<bool>) {
    stopped(stop).await;
    sleep(ONBIND_SHUTDOWN_TIMEOUT).await;
}

/// Records what became of rows, and logs what an operator should know.
async fn settle(tasks: &Tasks, rows: Vec<Due>, fate: Fate) -> Result<(), Failure> {
    let kinds: Vec<_> = rows.iter().map(|due| due.key.kind).collect();
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
