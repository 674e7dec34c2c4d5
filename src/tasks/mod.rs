//! What runs by itself for as long as the server does: sending the outbox and the links to people's own pages,
//! deleting what has expired, replacing the pepper, saving lookup budgets, summing up refusals.
//!
//! A task wakes at a tick or when it is notified, works in bounded steps, and may be stopped between any two of
//! them. Its work is in the database, so the next start goes on. A task that ends by itself ends the server.

mod budgets;
mod destinations;
mod in_use;
mod mail_lanes;
mod outbox;
mod refusals;
mod relay_state;
mod retention;
mod rotation;
mod turn;
mod visits;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::watch;

use crate::{
    ops::Core,
    remote::{homeservers::RemoteHomeservers, mail::Mailer, sms::SmsGateway},
};

/// What the tasks work with.
#[derive(Clone)]
pub struct Tasks {
    /// The operations.
    pub core: Arc<Core>,
    /// Sends to homeservers.
    pub homeservers: Arc<RemoteHomeservers>,
    /// Sends mails.
    pub mailer: Arc<Mailer>,
    /// Sends messages to phones.
    pub sms: Arc<SmsGateway>,
    /// The time between two looks at the clock.
    pub tick: Duration,
}

impl Tasks {
    /// Every task with its name. Each runs until `stop` is true and its work under way is finished.
    pub fn all(self, stop: &watch::Receiver<bool>) -> [(&'static str, BoxFuture<'static, ()>); 6] {
        let stop = || stop.clone();
        [
            ("outbox", outbox::run(self.clone(), stop()).boxed()),
            ("links to own pages", visits::run(self.clone(), stop()).boxed()),
            ("retention", retention::run(self.clone(), stop()).boxed()),
            ("pepper rotation", rotation::run(self.clone(), stop()).boxed()),
            ("sums of refusals", refusals::run(self.clone(), stop()).boxed()),
            ("lookup budgets", budgets::run(self, stop()).boxed()),
        ]
    }
}

/// Waits for the next tick; `false` if it is time to stop.
async fn tick(length: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => true,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}
