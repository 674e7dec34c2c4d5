//! Sends people the link to their own page, if something is stored about them (`ops::person::own_page`).
//!
//! The request was answered long before, so the time that this takes tells its sender nothing.

use tokio::{sync::watch, task::JoinSet};

use super::Tasks;
use crate::{
    metrics::VisitOutcome,
    ops::{
        address::suppression,
        person::own_page::{self, LinkOutcome, LinkRequest, Recipient},
    },
    remote::{mail::VisitMail, sms::VisitSms},
};

/// How many links are prepared and sent at the same time.
const MAX_CONCURRENT_LINKS: usize = 4;

pub async fn run(tasks: Tasks, mut stop: watch::Receiver<bool>) {
    let mut sending = JoinSet::new();
    loop {
        tokio::select! {
            Some(sent) = sending.join_next() => count(&tasks, sent.ok()),
            Some(asked) = tasks.core.visits.next(), if sending.len() < MAX_CONCURRENT_LINKS => {
                let tasks = tasks.clone();
                sending.spawn(async move { send_link(&tasks, asked).await });
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    while let Some(sent) = sending.join_next().await {
        count(&tasks, sent.ok());
    }
}

/// Counts what became of a request; `None` after a panic.
fn count(tasks: &Tasks, sent: Option<VisitOutcome>) {
    // Anybody can send a request. One that makes the code panic must not end the server.
    let outcome = sent.unwrap_or_else(|| {
        tracing::error!(
            "the link to a person's own page was not sent, because of a panic: please report the line before"
        );
        VisitOutcome::Failed
    });
    tasks.core.metrics.count_visit(outcome);
}

/// Sends the link if there is one; gives the outcome for the metric.
async fn send_link(tasks: &Tasks, asked: LinkRequest) -> VisitOutcome {
    let core = &tasks.core;
    let (to, language) = (asked.to.clone(), asked.language);
    let secret = match own_page::begin_visit(core, asked).await {
        Ok(LinkOutcome::Link(secret)) => secret,
        Ok(LinkOutcome::NothingStored) => return VisitOutcome::NothingStored,
        Ok(LinkOutcome::Suppressed) => return VisitOutcome::Suppressed,
        Ok(LinkOutcome::Ceiling) => return VisitOutcome::Ceiling,
        Err(error) => {
            tracing::error!(%error, "the link to a person's own page could not be prepared; the person must ask again");
            return VisitOutcome::Failed;
        }
    };
    let link = own_page::link(core, &secret);
    let was_sent = match to {
        Recipient::Mailbox(to) => {
            let stop = suppression::stop_link(core, &to);
            tasks.mailer.send_page_link(&VisitMail { to, stop, link, language }).await.is_ok()
        }
        Recipient::Phone(to) => {
            tasks.sms.send_page_link(&VisitSms { to: &to, link: &link, language }).await.is_ok()
        }
    };
    if was_sent { VisitOutcome::Sent } else { VisitOutcome::NotSent }
}
