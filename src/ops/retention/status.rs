//! What is held and when it goes: every rule of retention with what it holds now, for the operator
//! (`bindery retention status`).
//!
//! Counts and times only, so that the answer names nobody. The logs say the same of themselves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rewrite_due;
use crate::{
    domain::{
        invitation::Invitation,
        lookup::PepperState,
        retention::{
            AUDIT, GIVE_UP, GIVE_UP_NOTICE, PEPPER_GRACE, REWRITE, SESSION, VISIT_LINK, VISIT_PAGE,
            old_copies,
        },
        time::{DAY, HOUR, Millis},
        visit::Stage,
    },
    ops::{Core, Failure},
    store::{Snapshot, StoreError},
};

/// How many rows are looked at in one step.
const STEP: usize = 1024;

/// What a rule holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatus {
    /// What it is about.
    pub what: String,
    /// How long that is kept, in words.
    pub rule: String,
    /// How many rows there are.
    pub rows: u64,
    /// When the oldest row was written or used last.
    pub oldest: Option<Millis>,
    /// When the first row goes.
    pub goes: Option<Millis>,
}

/// Every rule with what it holds.
///
/// # Errors
/// If the database fails.
pub fn statuses(core: &Core) -> Result<Vec<RuleStatus>, Failure> {
    let (config, snapshot) = (&core.config, core.store.read());
    let counts = snapshot.counts()?;
    let idle = config.privacy.idle_account();
    let mut statuses = vec![
        RuleStatus { rows: counts.associations, ..until("bindings", "until they are withdrawn") },
        sessions(&snapshot)?,
        invitations(&snapshot, config.invites.lifetime())?,
        visits(&snapshot)?,
        tokens(&snapshot, idle)?,
        RuleStatus {
            rows: counts.consents,
            ..until(
                "accepted documents",
                "while the account has an access token or a binding, then until the first round of the next day",
            )
        },
        outbox(&snapshot)?,
        audit(&snapshot)?,
        RuleStatus {
            rows: counts.suppressed,
            ..until("addresses not to be written to", "until that is lifted")
        },
        RuleStatus { rows: counts.budgets, ..until("lookup budgets in use", "until they are full again") },
        peppers(&snapshot),
        RuleStatus {
            rows: counts.sms_days,
            ..until("counts of messages to telephones", "until the first message of the next day")
        },
        RuleStatus {
            rows: counts.invite_days,
            ..until("counts of invitation mails", "until the first invitation of the next day")
        },
        copies(core),
    ];
    let goes = rewrite_due(&snapshot, core.clock.now())?;
    statuses.push(RuleStatus {
        rows: u64::from(goes.is_some()),
        oldest: snapshot.removed_since()?,
        goes,
        ..until(
            "bytes of deleted rows in the file",
            &format!("until it is rewritten, {} after the last time", words(REWRITE)),
        )
    });
    Ok(statuses)
}

fn until(what: &str, rule: &str) -> RuleStatus {
    RuleStatus { what: what.to_owned(), rule: rule.to_owned(), rows: 0, oldest: None, goes: None }
}

/// A length of time in words, in the greatest unit of which it is a whole number.
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

/// Counts rows of which each has an age and an end.
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

fn sessions(snapshot: &Snapshot) -> Result<RuleStatus, StoreError> {
    let mut count = Count::of("validation sessions", &format!("{} after they last changed", words(SESSION)));
    let mut after = None;
    loop {
        let batch = snapshot.sessions_after(after.as_ref(), STEP)?;
        let Some((last, _)) = batch.last() else { return Ok(count.0) };
        after = Some(last.clone());
        batch.iter().for_each(|(_, one)| count.add(one.modified, one.modified.after(SESSION)));
    }
}

fn invitations(snapshot: &Snapshot, lifetime: Duration) -> Result<RuleStatus, StoreError> {
    let mut count =
        Count::of("invitations and their keys", &format!("{} after they were sent", words(lifetime)));
    let mut after = None;
    loop {
        let batch = snapshot.invitations_after(after.as_ref(), STEP)?;
        let Some(Invitation { token, .. }) = batch.last() else { return Ok(count.0) };
        after = Some(token.clone());
        batch.iter().for_each(|one| count.add(one.created, one.created.after(lifetime)));
    }
}

fn visits(snapshot: &Snapshot) -> Result<RuleStatus, StoreError> {
    let mut count = Count::of(
        "visits to people's own page",
        &format!("{} for the link, {} for the page", words(VISIT_LINK), words(VISIT_PAGE)),
    );
    for (_, visit) in snapshot.visits_after(None, usize::MAX)? {
        let length = if visit.stage == Stage::Link { VISIT_LINK } else { VISIT_PAGE };
        count.add(visit.until.before(length).unwrap_or(Millis(0)), visit.until);
    }
    Ok(count.0)
}

fn tokens(snapshot: &Snapshot, idle: Duration) -> Result<RuleStatus, StoreError> {
    let mut count = Count::of("access tokens", &format!("{} after the day of their last use", words(idle)));
    let mut after = None;
    loop {
        let batch = snapshot.tokens_after(after, STEP)?;
        let Some(last) = batch.last() else { return Ok(count.0) };
        after = Some(last.hash);
        batch.iter().for_each(|token| count.add(token.used, token.last_use().after(idle)));
    }
}

fn outbox(snapshot: &Snapshot) -> Result<RuleStatus, StoreError> {
    let mut count = Count::of(
        "what waits to be sent",
        &format!("until it arrives, at most {}; mails to owners {}", words(GIVE_UP), words(GIVE_UP_NOTICE)),
    );
    for (_, key) in snapshot.due(Millis(u64::MAX), None, usize::MAX)? {
        if let Some(row) = snapshot.outgoing(&key)? {
            count.add(row.since, row.until());
        }
    }
    Ok(count.0)
}

fn audit(snapshot: &Snapshot) -> Result<RuleStatus, StoreError> {
    let mut count = Count::of("entries of the audit", &words(AUDIT));
    snapshot
        .audit_since(Millis(0), None)?
        .iter()
        .for_each(|entry| count.add(entry.at, entry.at.after(AUDIT)));
    Ok(count.0)
}

fn copies(core: &Core) -> RuleStatus {
    let kept = old_copies(core.config.privacy.deleted_binding());
    let mut count = Count::of("copies from before a migration", &words(kept));
    core.store.old_copies().into_iter().for_each(|made| count.add(made, made.after(kept)));
    count.0
}

fn peppers(snapshot: &Snapshot) -> RuleStatus {
    let mut count = Count::of(
        "peppers that were replaced",
        &format!("{} after the new one came into use", words(PEPPER_GRACE)),
    );
    for index in snapshot.peppers() {
        if let PepperState::Previous { until } = index.state {
            count.add(index.created, until);
        }
    }
    count.0
}
