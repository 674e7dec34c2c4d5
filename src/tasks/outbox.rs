//! Sends what lies in the outbox, one destination after the other within itself and many
//! destinations at once, so that one that is slow or gone holds up nothing else.
//!
//! What is sent next, and what follows from success and failure, is in `ops::outbox`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::{sync::watch, task::JoinSet};

use super::{Tasks, tick};
use crate::{
    domain::{
        outbox::{Kind, OutboxKey, Outgoing, Parcel},
        server_name::ServerName,
    },
    ops::{
        Failure,
        outbox::{self, Content, Fate, InvitationContent, Settled},
    },
    remote::{
        mail::{InvitationMail, NotSent},
        onbind::OnBind,
    },
};

/// How many due rows are looked at in one go; each costs a few microseconds.
const LOOK_AT: usize = 4096;
/// How many rows of one destination are taken in one go.
const OF_ONE: usize = 16;
/// How many destinations are sent to at the same time.
const AT_ONCE: usize = 32;

type Row = (OutboxKey, Outgoing);

/// Where something goes: the relay, or a homeserver.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Destination {
    Relay,
    Homeserver(String),
}

impl Destination {
    fn of(parcel: &Parcel) -> Self {
        match parcel {
            Parcel::InvitationMail(_) => Self::Relay,
            Parcel::OnBind(user_id) => Self::Homeserver(user_id.server_name().to_owned()),
        }
    }
}

pub async fn run(tasks: Arc<Tasks>, mut stop: watch::Receiver<bool>) {
    let mut under_way: JoinSet<Option<Destination>> = JoinSet::new();
    let mut busy: HashSet<Destination> = HashSet::new();
    loop {
        for (destination, rows) in next(&tasks, &busy) {
            busy.insert(destination.clone());
            let (tasks, stop) = (tasks.clone(), stop.clone());
            under_way.spawn(async move { send_all(&tasks, rows, &stop).await.ok().map(|()| destination) });
        }
        tokio::select! {
            Some(ended) = under_way.join_next() => match ended {
                Ok(Some(destination)) => { busy.remove(&destination); }
                // It stays busy: what cannot be written down would be sent again and again.
                Ok(None) => tracing::error!("a part of the outbox rests until the next start"),
                Err(error) => tracing::error!(%error, "a part of the outbox rests until the next start"),
            },
            () = tasks.core.outbox_bell.notified() => {}
            go_on = tick(tasks.tick, &mut stop) => if !go_on { break },
        }
    }
    // What was handed over must also be written down, or it would be sent again.
    while under_way.join_next().await.is_some() {}
}

/// The rows to send now, by destination.
fn next(tasks: &Tasks, busy: &HashSet<Destination>) -> HashMap<Destination, Vec<Row>> {
    let mut chosen: HashMap<Destination, Vec<Row>> = HashMap::new();
    let room = AT_ONCE.saturating_sub(busy.len());
    if room == 0 {
        return chosen;
    }
    let rows = outbox::due(&tasks.core, LOOK_AT).unwrap_or_else(|error| {
        tracing::error!(%error, "the outbox cannot be read");
        Vec::new()
    });
    for (key, row) in rows {
        let destination = Destination::of(&row.parcel);
        let is_new = !chosen.contains_key(&destination);
        if busy.contains(&destination) || (is_new && chosen.len() == room) {
            continue;
        }
        let of_one = chosen.entry(destination).or_default();
        if of_one.len() < OF_ONE {
            of_one.push((key, row));
        }
    }
    chosen
}

/// Sends the rows of one destination. Once it cannot be reached, the rest of them wait as well.
async fn send_all(tasks: &Tasks, rows: Vec<Row>, stop: &watch::Receiver<bool>) -> Result<(), Failure> {
    let mut rows = rows.into_iter();
    while let Some((key, row)) = rows.next().filter(|_| !*stop.borrow()) {
        let (fate, is_reachable) = match outbox::content(&tasks.core, &key, &row)? {
            Some(content) => send(tasks, content).await,
            None => (Fate::Withdrawn, true),
        };
        settle(tasks, vec![(key, row)], fate).await?;
        if !is_reachable {
            return settle(tasks, rows.collect(), Fate::Failed).await;
        }
    }
    Ok(())
}

/// Sends one thing; what became of it, and whether its destination answers at all.
async fn send(tasks: &Tasks, content: Content) -> (Fate, bool) {
    match content {
        Content::OnBind(user_id, body) => {
            let Some(server) = ServerName::parse(user_id.server_name()) else { return (Fate::Refused, true) };
            match tasks.homeservers.on_bind(&server, &body).await {
                OnBind::Taken => (Fate::Delivered, true),
                OnBind::NotNow => (Fate::Failed, true),
                OnBind::Never => (Fate::Refused, true),
                OnBind::Unreachable => (Fate::Failed, false),
            }
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
            match tasks.mailer.invite(&mail).await {
                Ok(()) => (Fate::Delivered, true),
                Err(NotSent::Now) => (Fate::Failed, true),
                Err(NotSent::Unreachable) => (Fate::Failed, false),
                Err(NotSent::Ever) => (Fate::Refused, true),
            }
        }
    }
}

/// Writes down what became of rows, and says so where an operator looks.
async fn settle(tasks: &Tasks, rows: Vec<Row>, fate: Fate) -> Result<(), Failure> {
    let kinds: Vec<Kind> = rows.iter().map(|(key, _)| key.kind).collect();
    let settled = outbox::settle(&tasks.core, rows, fate).await.inspect_err(|error| {
        tracing::error!(%error, "what was sent could not be written down");
    })?;
    for (kind, settled) in kinds.into_iter().zip(settled) {
        let kind = kind.as_str();
        match settled {
            Settled::GivenUp => tracing::warn!(kind, "given up after a week of trying"),
            Settled::Refused => tracing::warn!(kind, "refused by the other side, and not tried again"),
            Settled::Delivered | Settled::Waiting | Settled::Withdrawn => {}
        }
        tasks.core.metrics.count_outbox(kind, settled.as_str());
    }
    Ok(())
}
