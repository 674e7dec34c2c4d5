//! Sends people the link to their own page, if something is stored about them (`ops::person::own_page`).
//!
//! The request was answered long before, so the time that this takes tells its sender nothing. Strangers request links,
//! so one recipient's domain and one caller's network hold only a part of the lanes.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
};

use super::{Tasks, tick};
use crate::{
    domain::{backoff::Backoff, time::Millis},
    metrics::VisitOutcome,
    ops::{
        address::suppression,
        person::own_page::{self, LinkOutcome, LinkRequest, Recipient},
    },
    remote::{
        mail::{ConnectionPermit, MailError, VisitMail},
        sms::VisitSms,
    },
};

/// How many links are prepared and sent at the same time ...
const MAX_CONCURRENT_LINKS: usize = 4;
/// ... and how many of them for one caller's network, and how many that failed before.
const MAX_CONCURRENT_OF_NETWORK: usize = 2;
const MAX_CONCURRENT_RETRIES: usize = 2;
/// How often a mail is retried. The last retry is half an hour after the first try.
const MAX_RETRIES: u32 = 5;
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(60), cap: Duration::from_secs(16 * 60) };
/// How many mails wait for a retry. Their addresses are in memory only. A further one is not retried ...
const MAX_WAITING: usize = 64;
/// ... nor is one of a network that has as many of them.
const MAX_WAITING_OF_NETWORK: usize = MAX_WAITING / 8;

/// A request, and how many tries have failed.
#[derive(Clone)]
struct Link {
    request: LinkRequest,
    failures: u32,
}

/// What became of a link, by its name in the metric. `Retry` if the relay may accept it later.
enum Sent {
    Ended(VisitOutcome),
    Retry,
}

#[derive(Default)]
struct Links {
    sending: JoinSet<Sent>,
    busy: HashMap<Id, Link>,
    waiting: Vec<(Millis, Link)>,
}

pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    let mut links = Links::default();
    loop {
        links.start_retries(&tasks);
        tokio::select! {
            Some(ended) = links.sending.join_next_with_id() => links.end(&tasks, ended),
            request = tasks.core.visits.next(|request| may_start(&links.busy, request)) => {
                links.start(&tasks, Link { request, failures: 0 });
            }
            go_on = tick(tasks.tick, &mut stop) => if !go_on { break },
        }
    }
    while let Some(ended) = links.sending.join_next_with_id().await {
        links.end(&tasks, ended);
    }
}

fn may_start(busy: &HashMap<Id, Link>, request: &LinkRequest) -> bool {
    let of_network = busy.values().filter(|link| link.request.caller() == request.caller());
    busy.len() < MAX_CONCURRENT_LINKS
        && of_network.count() < MAX_CONCURRENT_OF_NETWORK
        && busy.values().all(|link| link.request.lane() != request.lane())
}

impl Links {
    fn start(&mut self, tasks: &Tasks, link: Link) {
        let (tasks, request) = (tasks.clone(), link.request.clone());
        let task = self.sending.spawn(async move { send_link(&tasks, request).await });
        self.busy.insert(task.id(), link);
    }

    fn start_retries(&mut self, tasks: &Tasks) {
        let now = tasks.core.clock.now();
        let is_due = |(until, link): &(Millis, Link)| {
            BACKOFF.is_over(*until, now) && may_start(&self.busy, &link.request)
        };
        let retries = self.busy.values().filter(|link| link.failures > 0).count();
        if retries < MAX_CONCURRENT_RETRIES
            && let Some(at) = self.waiting.iter().position(is_due)
        {
            let (_, link) = self.waiting.swap_remove(at);
            self.start(tasks, link);
            self.start_retries(tasks);
        }
    }

    /// Counts what became of a link, or keeps it for a retry.
    fn end(&mut self, tasks: &Tasks, ended: Result<(Id, Sent), JoinError>) {
        let (id, sent) = match ended {
            Ok((id, sent)) => (id, sent),
            // Anybody can send a request. One that makes the code panic must not end the server.
            Err(panic) => {
                tracing::error!(
                    "the link to a person's own page was not sent, because of a panic: please report the line before"
                );
                (panic.id(), Sent::Ended(VisitOutcome::Failed))
            }
        };
        let link = self.busy.remove(&id);
        let outcome = match (sent, link) {
            (Sent::Ended(outcome), _) => outcome,
            (Sent::Retry, Some(link)) if self.has_room_for(&link) => {
                let failures = link.failures + 1;
                let until = tasks.core.clock.now().after(BACKOFF.wait(failures));
                self.waiting.push((until, Link { failures, ..link }));
                VisitOutcome::Waiting
            }
            (Sent::Retry, _) => VisitOutcome::NotSent,
        };
        tasks.core.metrics.count_visit(outcome);
    }

    fn has_room_for(&self, link: &Link) -> bool {
        let of_network =
            self.waiting.iter().filter(|(_, waiting)| waiting.request.caller() == link.request.caller());
        link.failures < MAX_RETRIES
            && self.waiting.len() < MAX_WAITING
            && of_network.count() < MAX_WAITING_OF_NETWORK
    }
}

/// Sends the link if there is one.
async fn send_link(tasks: &Tasks, request: LinkRequest) -> Sent {
    let core = &tasks.core;
    let (to, language) = (request.to().clone(), request.language());
    let nothing = match own_page::begin_visit(core, to.clone()).await {
        Ok(LinkOutcome::Link(secret)) => {
            let link = own_page::link(core, &secret);
            return match to {
                Recipient::Mailbox(to) => {
                    let stop = suppression::stop_link(core, &to);
                    match tasks.mailer.send_page_link(&VisitMail { to, stop, link, language }).await {
                        Ok(()) => Sent::Ended(VisitOutcome::Sent),
                        Err(MailError::Permanent) => Sent::Ended(VisitOutcome::NotSent),
                        Err(_) => Sent::Retry,
                    }
                }
                // A retry would count against `sms.daily_ceiling` again, for known numbers only.
                Recipient::Phone(to) => {
                    match tasks.sms.send_page_link(&VisitSms { to: &to, link: &link, language }).await {
                        Ok(()) => Sent::Ended(VisitOutcome::Sent),
                        Err(_) => Sent::Ended(VisitOutcome::NotSent),
                    }
                }
            };
        }
        Ok(LinkOutcome::NothingStored) => VisitOutcome::NothingStored,
        Ok(LinkOutcome::Suppressed) => VisitOutcome::Suppressed,
        Ok(LinkOutcome::Ceiling) => return Sent::Ended(VisitOutcome::Ceiling),
        Err(error) => {
            tracing::error!(%error, "the link to a person's own page could not be prepared; the person must ask again");
            return Sent::Ended(VisitOutcome::Failed);
        }
    };
    if let Recipient::Mailbox(_) = to {
        // The next request for the domain waits as long as after a mail. Otherwise its sender, who may have a mailbox
        // there, could tell that nothing was sent.
        tasks.mailer.pass_turn(ConnectionPermit::default()).await;
    }
    Sent::Ended(nothing)
}
