//! Sends the outbox to many destinations at once, so that a slow one delays no other.
//!
//! A homeserver gets one row at a time. The mails of a registrable domain share the connections that the relay allows for
//! one domain, and so do all mails to domains that were not quick (`mail_lanes`).
//!
//! `destinations` picks the rows to send now. What follows from success and failure is in `ops::outbox`.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{
    Tasks,
    destinations::{Batch, DUE_BATCH, Destination, Destinations, Outcome},
    mail_lanes::{Lane, Speed},
    tick,
    turn::{Sent, Try, Turn},
};
use crate::{
    domain::{outbox::Settled, server_name::ServerName, time::Millis},
    ops::{
        Failure,
        address::suppression,
        outbox::{self, Content, Due, DueBatch, Fate, InvitationContent},
    },
    parts,
    remote::{
        mail::{ConnectedAt, ConnectionPermit, InvitationMail, MailError},
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

/// A destination whose turn has ended.
struct Ended {
    destination: Destination,
    outcome: Outcome,
    speed: Option<Speed>,
    /// When its last message was sent.
    at: Millis,
}

type Worker = Result<Ended, Failure>;

/// Returns early if a worker panics: its destination would stay busy until the next start.
pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    let mut workers: JoinSet<Worker> = JoinSet::new();
    let mut destinations = Destinations::default();
    // At the start, the clock may have been put back while the server was off.
    let mut latest = Millis(u64::MAX);
    loop {
        tasks.core.monitor.beat();
        let now = tasks.core.clock.now();
        // If the clock was put back, rows may be scheduled too far ahead.
        let rescheduled = match now < latest {
            true => outbox::reschedule_far_rows(&tasks.core).await,
            false => Ok(()),
        };
        match rescheduled {
            Ok(()) => latest = now,
            Err(error) => tracing::error!(
                %error,
                "the clock was put back, but queued messages cannot be rescheduled; Bindery tries again at the next tick: check the disk"
            ),
        }
        let begun = instant();
        for (destination, batch) in pick_due(&tasks, &mut destinations).await {
            let timeout = match destinations.failed_before(&destination) {
                true => ONBIND_RETRY_TIMEOUT,
                false => ONBIND_TIMEOUT,
            };
            destinations.start(destination.clone(), &batch);
            let (tasks, stop) = (tasks.clone(), stop.clone());
            workers.spawn(async move {
                parts::panic_if_asked(WORKER_PART);
                send_all(&tasks, destination, batch, timeout, &stop).await
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
                Ok(Ok(Ended { destination, outcome, speed, at })) => {
                    destinations.finish(destination, outcome, speed, at);
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
async fn pick_due(tasks: &Tasks, destinations: &mut Destinations) -> HashMap<Destination, Batch> {
    let mut picked = HashMap::new();
    for _ in 0..MAX_DUE_BATCHES {
        if !destinations.have_capacity() {
            break;
        }
        let batch = outbox::due(&tasks.core, destinations.cursor(), DUE_BATCH).await;
        let DueBatch { rows, next } = batch.unwrap_or_else(|error| {
            tracing::error!(%error, "the outbox cannot be read");
            DueBatch::default()
        });
        let has_more = next.is_some();
        destinations.advance_cursor(next);
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

/// Sends the rows of one destination, until a failure that the others would share. Rows that were not tried stay
/// unchanged.
async fn send_all(
    tasks: &Tasks,
    destination: Destination,
    Batch { lane, rows, .. }: Batch,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Worker {
    let started = instant();
    let may_go_on = || !*stop.borrow() && started.elapsed() <= MAX_TURN;
    let max_parallel = if lane == Some(Lane::Quick) { tasks.mailer.max_for_domain() } else { 1 };
    let (mut rows, mut sending, mut turn) = (rows.into_iter(), FuturesUnordered::new(), Turn::default());
    loop {
        while sending.len() < max_parallel
            && !turn.has_ended()
            && may_go_on()
            && let Some(due) = rows.next()
        {
            sending.push(send_and_settle(tasks, due, lane, onbind_timeout, stop));
        }
        // After the end, wait for the messages that are being sent. Otherwise the next start would send them again.
        let Some(sent) = sending.next().await else {
            let at = turn.last_sent().unwrap_or_else(|| tasks.core.clock.now());
            let (speed, outcome) = (turn.speed(), turn.outcome(destination.is_mail())?);
            return Ok(Ended { destination, outcome, speed, at });
        };
        turn.record(sent);
    }
}

/// Sends a row and records the result.
async fn send_and_settle(
    tasks: &Tasks,
    due: Due,
    lane: Option<Lane>,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Result<Try, Failure> {
    let kind = due.key.kind;
    let ended = |sent, connected_at: ConnectedAt| {
        let took = connected_at.get().map_or(Duration::ZERO, Instant::elapsed);
        Try { sent, took, at: tasks.core.clock.now() }
    };
    let permit = match lane {
        None => ConnectionPermit::default(),
        Some(lane) => {
            let is_quick = lane == Lane::Quick;
            let permit = tokio::select! {
                permit = tasks.mailer.acquire_for_outbox(kind, &due.host, is_quick) => permit,
                () = stopped(stop.clone()) => return Ok(ended(Sent::Stopped, ConnectedAt::default())),
            };
            if lane == Lane::Slow { permit.for_slow_domain() } else { permit }
        }
    };
    let connected_at = permit.connected_at();
    // Read only now: while the row waited, its recipient may have opted out, or the invitation may be gone.
    let (fate, sent) = match outbox::content(&tasks.core, &due.key, &due.row) {
        Ok(Some(content)) => {
            let sending = send(tasks, content, permit, onbind_timeout, stop);
            let result = AssertUnwindSafe(sending).catch_unwind().await;
            let result = result.unwrap_or_else(|_| {
                // Strangers choose what a message says. One that makes the code panic must not end the server.
                tracing::error!(
                    kind = kind.as_str(),
                    "a message was not sent, because of a panic: please report the line before"
                );
                Ok((Fate::Failed, Sent::Nothing))
            });
            match result {
                Ok(result) => result,
                // There is no answer to record, so it is sent again: at the next start, or in the next turn.
                Err(unsent) => return Ok(ended(unsent, connected_at)),
            }
        }
        Ok(None) => (Fate::Withdrawn, Sent::Nothing),
        // Retention deletes what cannot be read. Other messages to this destination do not wait for that.
        Err(Failure::Store(error)) if error.is_unreadable_row() => {
            tracing::error!(kind = kind.as_str(), %error, "a message was not sent");
            (Fate::Failed, Sent::Nothing)
        }
        Err(error) => return Err(error),
    };
    // The backoff begins now, however long the database takes to record the result.
    let tried = ended(sent, connected_at);
    settle(tasks, vec![due], fate).await?;
    Ok(tried)
}

/// Sends one message. `Err(Stopped)` if the server stops before it is sent, or before a homeserver has answered, and
/// `Err(NotAsked)` if there was no place to ask a homeserver: then the row stays as it is.
async fn send(
    tasks: &Tasks,
    content: Content,
    permit: ConnectionPermit<'_>,
    onbind_timeout: Duration,
    stop: &watch::Receiver<bool>,
) -> Result<(Fate, Sent), Sent> {
    parts::panic_if_asked(SENDING);
    match content {
        Content::OnBind(user_id, body) => {
            let Some(server) = ServerName::parse(user_id.server_name()) else {
                return Ok((Fate::Refused, Sent::Nothing));
            };
            let answer = tokio::select! {
                answer = tasks.homeservers.on_bind(&server, &body, onbind_timeout) => answer,
                () = stopped_for(ONBIND_SHUTDOWN_TIMEOUT, stop.clone()) => return Err(Sent::Stopped),
            };
            match answer {
                OnBind::Delivered => Ok((Fate::Delivered, Sent::Delivered)),
                OnBind::Refused => Ok((Fate::Refused, Sent::Refused)),
                OnBind::Failed => Ok((Fate::Failed, Sent::Unreachable)),
                OnBind::NotAsked => Err(Sent::NotAsked),
            }
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
            unless_stopped(tasks, tasks.mailer.send_invitation(&mail, permit), stop).await
        }
        Content::NoMail => tokio::select! {
            () = tasks.mailer.pass_turn(permit) => Ok((Fate::Withdrawn, Sent::PassedTurn)),
            () = stopped(stop.clone()) => Err(Sent::Stopped),
        },
        Content::OwnerMail(notice) => {
            let link = suppression::stop_link(&tasks.core, &notice.address);
            unless_stopped(tasks, tasks.mailer.send_owner_notice(&notice, &link, permit), stop).await
        }
    }
}

/// The result of sending a mail. `Err(Stopped)` if the server has been stopping for `mail.smtp.timeout_seconds` before the relay
/// has answered.
async fn unless_stopped(
    tasks: &Tasks,
    sending: impl Future<Output = Result<(), MailError>>,
    stop: &watch::Receiver<bool>,
) -> Result<(Fate, Sent), Sent> {
    let timeout = Duration::from_secs(tasks.core.config.mail.smtp.timeout_seconds.get().into());
    let sent = tokio::select! {
        sent = sending => sent,
        () = stopped_for(timeout, stop.clone()) => return Err(Sent::Stopped),
    };
    Ok(match sent {
        Ok(()) => (Fate::Delivered, Sent::Delivered),
        Err(MailError::Temporary) => (Fate::Failed, Sent::Refused),
        Err(MailError::Unanswered) => (Fate::Failed, Sent::Unanswered),
        Err(MailError::RelayUnreachable) => (Fate::Failed, Sent::Unreachable),
        Err(MailError::Permanent) => (Fate::Refused, Sent::Refused),
    })
}

#[expect(clippy::disallowed_methods, reason = "how long reading and sending take is real time")]
fn instant() -> Instant {
    Instant::now()
}

/// Ready when the server stops.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and then the server stops, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ready when the server has been stopping for this long.
async fn stopped_for(length: Duration, stop: watch::Receiver<bool>) {
    stopped(stop).await;
    sleep(length).await;
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
        tasks.core.metrics.count_outbox(kind, settled);
        let kind = kind.as_str();
        match settled {
            Settled::GivenUp => tracing::warn!(kind, "a message was given up after its last retry"),
            Settled::Refused => tracing::warn!(kind, "the other side refused a message; it is not retried"),
            Settled::Delivered | Settled::Waiting | Settled::Withdrawn => {}
        }
    }
    Ok(())
}
