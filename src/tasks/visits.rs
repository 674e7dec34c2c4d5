//! Sends the link to their own page to those who have asked for it, if something is stored about
//! them (`ops::visits`).
//!
//! Whoever asked was answered long before, so what happens here tells them nothing, however long it
//! takes.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinSet};

use super::Tasks;
use crate::{
    ops::person::own_page::{self, Asked, Begun, Destination},
    remote::{mail::VisitMail, sms::VisitSms},
};

/// How many are looked at and written to at the same time.
const AT_ONCE: usize = 4;

pub async fn run(tasks: Arc<Tasks>, mut stop: watch::Receiver<bool>) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = under_way.join_next() => {}
            Some(asked) = tasks.core.visits.next(), if under_way.len() < AT_ONCE => {
                let tasks = tasks.clone();
                under_way.spawn(async move { tasks.core.metrics.count_visit(invite(&tasks, asked).await) });
            }
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Sends the link if there is one; what came of it.
async fn invite(tasks: &Tasks, asked: Asked) -> &'static str {
    let core = &tasks.core;
    let (to, language) = (asked.to.clone(), asked.language);
    let secret = match own_page::begin(core, asked).await {
        Ok(Begun::Link(secret)) => secret,
        Ok(Begun::NothingStored) => return "nothing_stored",
        Ok(Begun::Suppressed) => return "suppressed",
        Ok(Begun::Limited) => return "limited",
        Ok(Begun::Ceiling) => return "ceiling",
        Err(error) => {
            tracing::error!(%error, "a visit could not begin");
            return "failed";
        }
    };
    let link = own_page::link(core, &secret, language);
    let was_sent = match to {
        Destination::Mailbox(to) => {
            tasks.mailer.send_page_link(&VisitMail { to, link, language }).await.is_ok()
        }
        Destination::Telephone(to) => {
            tasks.sms.send_page_link(&VisitSms { to: &to, link: &link, language }).await.is_ok()
        }
    };
    if was_sent { "sent" } else { "not_sent" }
}
