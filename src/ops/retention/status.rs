//! The status of retention: what each rule holds now, and when it is deleted, for the operator (`bindery
//! retention status`).
//!
//! It has counts and times only, so it names no person. The logs report the same about themselves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rewrite_due;
use crate::{
    domain::{
        ids::{Sid, Token},
        lookup::PepperState,
        outbox::OutboxKey,
        retention::{
            AUDIT, GIVE_UP, GIVE_UP_OWNER_MAIL, PEPPER_GRACE, REWRITE, SESSION, VISIT_LINK, VISIT_PAGE,
            old_copies,
        },
        secret::SecretHash,
        time::{DAY, HOUR, Millis},
        visit::{Stage, Visit},
    },
    ops::{Core, Failure, backup},
    store::{Scan, Snapshot, StoreError},
};

/// How many rows one step counts.
const COUNT_BATCH: usize = 1024;

/// The rows that a rule of retention applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// What the rows are.
    pub what: String,
    /// How long they are kept, in words.
    pub rule: String,
    /// How many rows there are.
    pub rows: u64,
    /// When the oldest row was written or last used.
    pub oldest: Option<Millis>,
    /// When the first row is deleted.
    pub goes: Option<Millis>,
}

/// Every rule with its rows. Counts tables in bounded steps, so that no snapshot is held for long.
pub async fn statuses(core: &Core) -> Result<Vec<RuleStatus>, Failure> {
    let (config, counts) = (&core.config, core.store.read().counts()?);
    let mut statuses = vec![
        RuleStatus { rows: counts.associations, ..until("bindings", "until they are withdrawn") },
        sessions(core).await?,
        invitations(core, config.invites.lifetime()).await?,
        visits(core).await?,
        tokens(core, config.privacy.idle_account()).await?,
        RuleStatus {
            rows: counts.consents,
            ..until(
                "accepted documents",
                "while the account has an access token or a binding, then until the first round of the next day",
            )
        },
        outbox(core).await?,
        audit(core).await?,
        RuleStatus {
            rows: counts.suppressed,
            ..until("addresses that opted out", "until the opt-out is lifted")
        },
        RuleStatus { rows: counts.budgets, ..until("lookup budgets in use", "until they are full again") },
        peppers(&core.store.read()),
        RuleStatus {
            rows: counts.sms_days,
            ..until("counts of messages to phones", "until the first message of the next day")
        },
        RuleStatus {
            rows: counts.invite_days,
            ..until("counts of invitation mails", "until the first invitation of the next day")
        },
        copies(core),
        backups(core),
    ];
    let snapshot = core.store.read();
    let goes = rewrite_due(&snapshot, core.clock.now())?;
    statuses.push(RuleStatus {
        rows: u64::from(goes.is_some()),
        oldest: snapshot.removed_since()?,
        goes,
        ..until(
            "bytes of deleted rows in the file",
            &format!("until the file is rewritten, {} after the last rewrite", words(REWRITE)),
        )
    });
    Ok(statuses)
}

fn until(what: &str, rule: &str) -> RuleStatus {
    RuleStatus { what: what.to_owned(), rule: rule.to_owned(), rows: 0, oldest: None, goes: None }
}

/// A duration in words, in the greatest unit of which it is a multiple.
pub fn words(length: Duration) -> String {
    const MINUTE: Duration = Duration::from_secs(60);
    let units = [(DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")];
    let whole = |unit: Duration| length.as_secs().is_multiple_of(unit.as_secs());
    let (unit, name) = units.into_iter().find(|(unit, _)| whole(*unit)).unwrap_or((MINUTE, "minute"));
    match length.as_secs() / unit.as_secs() {
        1 => format!("one {name}"),
        count => format!("{count} {name}s"),
    }
}

/// Counts rows that each have an age and an end.
struct Count(RuleStatus);

impl Count {
    fn of(what: &str, rule: &str) -> Self {
        Self(until(what, rule))
    }

    fn add(&mut self, since: Millis, goes: Millis) {
        let Self(status) = self;
        status.rows += 1;
        status.oldest = Some(status.oldest.map_or(since, |oldest| oldest.min(since)));
        status.goes = Some(status.goes.map_or(goes, |first| first.min(goes)));
    }
}

/// Counts the rows of a table in bounded steps. `read` returns the batch after a key: the key of each row,
/// since when it is stored, and when it is deleted.
async fn count<K: Clone + Send + 'static>(
    core: &Core,
    what: &str,
    rule: &str,
    read: impl Fn(&Scan<'_>, Option<&K>) -> Result<Vec<(K, Millis, Millis)>, StoreError> + Clone + Send + 'static,
) -> Result<RuleStatus, Failure> {
    let (mut count, mut after): (_, Option<K>) = (Count::of(what, rule), None);
    loop {
        let read = read.clone();
        let batch = core.store.scan(move |scan| read(scan, after.as_ref())).await?;
        let Some((last, ..)) = batch.last() else { return Ok(count.0) };
        after = Some(last.clone());
        batch.iter().for_each(|(_, since, goes)| count.add(*since, *goes));
    }
}

async fn sessions(core: &Core) -> Result<RuleStatus, Failure> {
    let rule = format!("{} after they last changed", words(SESSION));
    let read = |scan: &Scan<'_>, after: Option<&Sid>| {
        let batch = scan.sessions_after(after, COUNT_BATCH)?.into_iter();
        Ok(batch.map(|(sid, one)| (sid, one.modified, one.modified.after(SESSION))).collect())
    };
    count(core, "validation sessions", &rule, read).await
}

async fn invitations(core: &Core, lifetime: Duration) -> Result<RuleStatus, Failure> {
    let rule = format!("{} after they were sent", words(lifetime));
    let read = move |scan: &Scan<'_>, after: Option<&Token>| {
        let batch = scan.invitations_after(after, COUNT_BATCH)?.into_iter();
        Ok(batch.map(|one| (one.token, one.created, one.created.after(lifetime))).collect())
    };
    count(core, "invitations and their keys", &rule, read).await
}

async fn visits(core: &Core) -> Result<RuleStatus, Failure> {
    let rule = format!("{} for the link, {} for the page", words(VISIT_LINK), words(VISIT_PAGE));
    let read = |scan: &Scan<'_>, after: Option<&SecretHash>| {
        let batch = scan.visits_after(after.copied(), COUNT_BATCH)?.into_iter();
        let row = |(secret, visit): (SecretHash, Visit)| {
            let length = if visit.stage == Stage::Link { VISIT_LINK } else { VISIT_PAGE };
            (secret, visit.until.before(length).unwrap_or(Millis(0)), visit.until)
        };
        Ok(batch.map(row).collect())
    };
    count(core, "visits to people's own pages", &rule, read).await
}

async fn tokens(core: &Core, idle: Duration) -> Result<RuleStatus, Failure> {
    let rule = format!("{} after the day of their last use", words(idle));
    let read = move |scan: &Scan<'_>, after: Option<&SecretHash>| {
        let batch = scan.tokens_after(after.copied(), COUNT_BATCH)?.into_iter();
        Ok(batch.map(|token| (token.hash, token.used, token.last_use().after(idle))).collect())
    };
    count(core, "access tokens", &rule, read).await
}

async fn outbox(core: &Core) -> Result<RuleStatus, Failure> {
    let rule = format!(
        "until they are sent, at most {}; mails to owners {}",
        words(GIVE_UP),
        words(GIVE_UP_OWNER_MAIL)
    );
    let read = |scan: &Scan<'_>, after: Option<&(Millis, OutboxKey)>| {
        let mut batch = Vec::new();
        for (due, key) in scan.due(Millis(u64::MAX), after, COUNT_BATCH)? {
            let row = scan.outgoing(&key)?;
            batch.extend(row.map(|row| ((due, key), row.since, row.until())));
        }
        Ok(batch)
    };
    count(core, "queued mails and calls to homeservers", &rule, read).await
}

async fn audit(core: &Core) -> Result<RuleStatus, Failure> {
    let read = |scan: &Scan<'_>, after: Option<&u64>| {
        let batch = scan.audit_after(after.copied(), COUNT_BATCH)?.into_iter();
        Ok(batch.map(|(number, entry)| (number, entry.at, entry.at.after(AUDIT))).collect())
    };
    count(core, "entries of the audit", &words(AUDIT), read).await
}

fn copies(core: &Core) -> RuleStatus {
    let kept = old_copies(core.config.privacy.deleted_binding());
    let mut count = Count::of("copies of the database from before a migration or restore", &words(kept));
    core.store.old_copies().into_iter().for_each(|made| count.add(made, made.after(kept)));
    count.0
}

fn backups(core: &Core) -> RuleStatus {
    let kept = core.config.backup.kept();
    let mut count = Count::of("backups in backup.directory", &words(kept));
    backup::list(core).into_iter().for_each(|made| count.add(made, made.after(kept)));
    count.0
}

fn peppers(snapshot: &Snapshot) -> RuleStatus {
    let mut count =
        Count::of("previous peppers", &format!("{} after the new pepper came into use", words(PEPPER_GRACE)));
    for index in snapshot.peppers() {
        if let PepperState::Previous { until } = index.state {
            count.add(index.created, until);
        }
    }
    count.0
}
