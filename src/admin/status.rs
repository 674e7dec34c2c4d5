//! `bindery status`: the running server on one screen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::{
    domain::time::{DAY, HOUR, Millis},
    ops::{
        Core, Failure,
        monitoring::{self, DatabaseStatus, Readiness},
        retention,
    },
};

/// Asks for the [`Status`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetStatus;

/// The running server. Counts and times only: it names no person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its name.
    pub server_name: String,
    /// When it started.
    pub started: Millis,
    /// Its time.
    pub now: Millis,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// What its database holds.
    pub database: DatabaseStatus,
    /// The size of the database file.
    pub database_bytes: u64,
    /// What is free for it on the disk.
    pub free_bytes: u64,
    /// Since when mails, messages and refusals are counted: for a day at most.
    pub counted_since: Millis,
    /// Mails, by what the relay said.
    pub mails: BTreeMap<String, u64>,
    /// Messages to phones, by what the gateway said.
    pub sms: BTreeMap<String, u64>,
    /// Requests that limits refused, by limit.
    pub refused: BTreeMap<String, u64>,
    /// What the operator should look at.
    pub warnings: Vec<String>,
}

/// A row of the outbox that is older is worth a warning.
const OLD_ROW: std::time::Duration = HOUR;

impl Command for GetStatus {
    const PATH: &'static str = "/status";

    type Answer = Status;

    async fn run(self, core: &Core) -> Result<Status, Failure> {
        let (now, metrics) = (core.clock.now(), &core.metrics);
        let named = |counts: BTreeMap<&'static str, u64>| {
            counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
        };
        let observed = monitoring::observe(core).await?;
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            server_name: core.config.server_name.clone(),
            started: metrics.started(),
            now,
            readiness: monitoring::readiness(core).await,
            database: monitoring::database_status(core).await?,
            database_bytes: observed.database_bytes,
            free_bytes: observed.free_bytes,
            counted_since: metrics.started().max(now.before(DAY).unwrap_or(Millis(0))),
            mails: named(metrics.mails_today()),
            sms: named(metrics.sms_today()),
            refused: named(metrics.limited_today()),
            warnings: core.config.warnings(),
        };
        let found = warnings(core, &status)?;
        status.warnings.extend(found);
        Ok(status)
    }
}

fn warnings(core: &Core, status: &Status) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    if core.retention.is_halted() {
        warnings.push(
            "expired data is not deleted, because the clock jumped or the server was off for more than a month: if the clock is right, run 'bindery retention run'".to_owned(),
        );
    }
    if retention::is_overdue(core)? {
        warnings.push(
            "the bytes of deleted rows are in the file for too long, because the rewrite fails: see the log"
                .to_owned(),
        );
    }
    // The rewrite makes a second file beside the first.
    if status.free_bytes < status.database_bytes {
        warnings.push(
            "the disk has too little room for the daily rewrite, which needs as much as the database takes"
                .to_owned(),
        );
    }
    for of_kind in &status.database.outbox {
        if of_kind.oldest.is_some_and(|oldest| oldest.after(OLD_ROW) < status.now) {
            warnings.push(format!(
                "messages of the kind {} wait for more than an hour: see the log",
                of_kind.kind
            ));
        }
    }
    Ok(warnings)
}
