//! What runs by itself, as long as the server does: sending what lies in the outbox and the links
//! that people ask for, deleting what has expired, replacing the pepper, writing down lookup budgets.
//!
//! A task is woken by the clock or a bell, does bounded steps, and may be stopped between any two
//! of them; what it works on is in the database.

mod budgets;
mod lanes;
mod outbox;
mod retention;
mod rotation;
mod visits;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    ops::Core,
    remote::{homeservers::RemoteHomeservers, mail::Mailer, sms::SmsGateway},
};

/// What the tasks work with.
pub struct Tasks {
    /// The operations.
    pub core: Arc<Core>,
    /// The way to homeservers.
    pub homeservers: Arc<RemoteHomeservers>,
    /// The way out for mails.
    pub mailer: Arc<Mailer>,
    /// The way out for messages to telephones.
    pub sms: Arc<SmsGateway>,
    /// How often the clock is looked at.
    pub tick: Duration,
}

impl Tasks {
    /// Runs until `stop` says so and what is under way has ended.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let tasks = Arc::new(self);
        tokio::join!(
            outbox::run(tasks.clone(), stop.clone()),
            visits::run(tasks.clone(), stop.clone()),
            retention::run(&tasks, stop.clone()),
            rotation::run(&tasks, stop.clone()),
            budgets::run(&tasks, stop),
        );
    }
}

/// Waits for the next look at the clock; `false` if it is time to stop.
async fn tick(length: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => true,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}
