//! Sends what lies in the outbox, one destination after the other within itself and many
//! destinations at once, so that one that is slow or gone holds up nothing else.
//!
//! What is sent next, and what follows from success and failure, is in `ops::outbox`.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
    time::sleep,
};

use super::{
    Tasks,
    lanes::{Destination, Ended, LOOK_AT, Lanes, Row},
    tick,
};
use crate::{
    domain::server_name::ServerName,
    ops::{
        Failure,
        outbox::{self, Content, Fate, InvitationContent, Settled},
    },
    remote::{
        mail::{InvitationMail, MailError},
        onbind::OnBind,
    },
};

/// In how many steps the due rows are looked through before something else has its turn.
const STEPS: usize = 16;
/// Nothing more is begun for a destination that has taken so long; it is the next one's turn.
const LONG_ENOUGH: Duration = Duration::from_secs(30);
/// How long a homeserver may still take to answer when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

pub async fn run(tasks: Arc<Tasks>, mut stop: watch::Receiver<bool>) {
    let mut under_way: JoinSet<Option<(Destination, Ended)>> = JoinSet::new();
    let mut lanes = Lanes::default();
    loop {
        for (destination, rows) in next(&tasks, &mut lanes).await {
            lanes.begin(destination.clone());
            let (tasks, stop) = (tasks.clone(), stop.clone());
            under_way.spawn(async move {
                let ended = send_all(&tasks, rows, &stop).await.ok()?;
                Some((destination, ended))
            });
        }
        tokio::select! {
            Some(ended) = under_way.join_next() => match ended {
                Ok(Some((destination, ended))) => {
                    lanes.end(destination, ended, tasks.core.clock.now());
                }
                // It stays busy: what cannot be written down would be sent again and again.
                Ok(None) => tracing::error!("a part of the outbox rests until the next start"),
                Err(error) => tracing::error!(%error, "a part of the outbox rests until the next start"),
            },
            () = outbox::changed(&tasks.core) => {}
            go_on = tick(tasks.tick, &mut stop) => if !go_on { break },
        }
    }
    // What was handed over must also be written down, or it would be sent again.
    while under_way.join_next().await.is_some() {}
}

/// The rows to send now, by destination. What is too far behind the rows of busy destinations is
/// found the next time.
async fn next(tasks: &Tasks, lanes: &mut Lanes) -> HashMap<Destination, Vec<Row>> {
    let mut chosen = HashMap::new();
    for _ in 0..STEPS {
        if !lanes.have_room() {
            break;
        }
        let rows = outbox::due(&tasks.core, lanes.after().cloned(), LOOK_AT).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the outbox cannot be read");
            Vec::new()
        });
        let goes_on = lanes.go_on_after(&rows);
        let now = tasks.core.clock.now();
        let (late, rows): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|(_, row)| row.is_late(now));
        if !late.is_empty() && settle(tasks, late, Fate::Withdrawn).await.is_err() {
            break;
        }
        lanes.choose(rows, now, &mut chosen);
        if !goes_on {
            break;
        }
        yield_now().await;
    }
    chosen
}

/// Sends the rows of one destination, up to the first that shows that the others would fare no
/// better. Those that were not tried stay as they are.
async fn send_all(tasks: &Tasks, rows: Vec<Row>, stop: &watch::Receiver<bool>) -> Result<Ended, Failure> {
    let mut failed = Ended::Badly;
    #[expect(clippy::disallowed_methods, reason = "how long sending takes is real time")]
    let begun = Instant::now();
    for (key, row) in rows {
        if *stop.borrow() || begun.elapsed() > LONG_ENOUGH {
            break;
        }
        let sent = match outbox::content(&tasks.core, &key, &row)? {
            Some(content) => send(tasks, content, stop).await,
            None => Some((Fate::Withdrawn, true)),
        };
        // Without an answer to write down, it is sent again after the next start.
        let Some((fate, went_well)) = sent else { break };
        settle(tasks, vec![(key, row)], fate).await?;
        if !went_well {
            return Ok(failed);
        }
        failed = Ended::Halfway;
    }
    Ok(Ended::Well)
}

/// Sends one thing; what became of it, and whether the destination is worth trying with another.
/// `None` if the server stops before a homeserver has answered, which may take a minute.
async fn send(tasks: &Tasks, content: Content, stop: &watch::Receiver<bool>) -> Option<(Fate, bool)> {
    match content {
        Content::OnBind(user_id, body) => {
            let Some(server) = ServerName::parse(user_id.server_name()) else {
                return Some((Fate::Refused, true));
            };
            let told = tokio::select! {
                told = tasks.homeservers.on_bind(&server, &body) => told,
                () = last_words(stop.clone()) => return None,
            };
            Some(match told {
                OnBind::Delivered => (Fate::Delivered, true),
                OnBind::Refused => (Fate::Refused, true),
                OnBind::Failed => (Fate::Failed, false),
            })
        }
        Content::Invitation(content) => {
            let InvitationContent { invitation, described, link, language } = *content;
            let mail = InvitationMail {
                to: invitation.address,
                sender: invitation.sender.as_str().to_owned(),
                described,
                link,
                expire_days: tasks.core.config.invites.expire_days.get(),
                language,
            };
            Some(mailed(tasks.mailer.send_invitation(&mail).await))
        }
        Content::OwnerNotice(notice) => Some(mailed(tasks.mailer.send_owner_notice(&notice).await)),
    }
}

/// What became of a mail, and whether the relay answers.
fn mailed(sent: Result<(), MailError>) -> (Fate, bool) {
    match sent {
        Ok(()) => (Fate::Delivered, true),
        Err(MailError::Temporary) => (Fate::Failed, true),
        Err(MailError::RelayUnreachable) => (Fate::Failed, false),
        Err(MailError::Permanent) => (Fate::Refused, true),
    }
}

/// Ready shortly after it is time to stop.
async fn last_words(mut stop: watch::Receiver<bool>) {
    // Whoever would have said so may be gone.
    let _ = stop.wait_for(|stop| *stop).await;
    sleep(LAST_WORDS).await;
}

/// Writes down what became of rows, and says so where an operator looks.
async fn settle(tasks: &Tasks, rows: Vec<Row>, fate: Fate) -> Result<(), Failure> {
    let kinds: Vec<_> = rows.iter().map(|(key, _)| key.kind).collect();
    let settled = outbox::settle(&tasks.core, rows, fate).await.inspect_err(|error| {
        tracing::error!(%error, "what was sent could not be written down");
    })?;
    for (kind, settled) in kinds.into_iter().zip(settled) {
        let kind = kind.as_str();
        match settled {
            Settled::GivenUp => tracing::warn!(kind, "given up, its time is over"),
            Settled::Refused => tracing::warn!(kind, "refused by the other side, and not tried again"),
            Settled::Delivered | Settled::Waiting | Settled::Withdrawn => {}
        }
        tasks.core.metrics.count_outbox(kind, settled.as_str());
    }
    Ok(())
}
