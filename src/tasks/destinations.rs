//! Picks the destinations that the outbox sends to now: those that are neither busy nor in backoff, up to a limit.
//!
//! The backoff of a destination is kept here and not in its rows, so that rows that were never tried stay as they
//! are.

use std::{collections::HashMap, time::Duration};

use super::{
    in_use::{InUse, MAX_BUSY},
    mail_lanes::{DomainSpeeds, Lane, Speed},
    relay_state::RelayState,
};
use crate::{
    domain::{
        backoff::Backoff,
        outbox::{Kind, RETRY_FIRST, RETRY_MOST},
        time::{DAY, Millis},
    },
    ops::outbox::{Due, DueCursor},
    remote::places::owner_of,
};

/// How many due rows are read at once; each costs a few microseconds.
pub const DUE_BATCH: usize = 1024;
/// How many rows of one destination are sent in one turn.
const DESTINATION_BATCH: usize = 16;
/// The longest backoff of mails to one domain. The relay is the operator's own, and its trouble with a domain ends sooner
/// than the outage of a homeserver.
const MAIL_MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Where rows of one kind go: a homeserver, whatever its port, or the mailboxes of a registrable domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The kind of the rows.
    pub kind: Kind,
    /// See [`Due`].
    pub host: String,
}

impl Destination {
    /// Whether the relay takes the rows.
    pub fn is_mail(&self) -> bool {
        self.kind != Kind::OnBind
    }

    fn backoff(&self) -> Backoff {
        let cap = if self.is_mail() { MAIL_MAX_BACKOFF } else { RETRY_MOST };
        Backoff { first: RETRY_FIRST, cap }
    }
}

/// How a turn of a destination ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next turn may follow at once.
    Succeeded,
    /// No row was sent, so nothing is known.
    NothingSent,
    /// The homeserver was not asked, because strangers took all places at its address.
    NotAsked,
    /// The destination failed after it had taken at least one row.
    FailedAfterSuccess,
    /// The destination took no row.
    Failed,
    /// The relay cannot be reached, whatever the destination.
    RelayUnreachable,
}

/// Nothing is sent before `until`.
struct Pause {
    /// How many failures there were without a success in between.
    failures: u32,
    until: Millis,
}

/// The rows of a destination that are sent in one turn.
pub struct Batch {
    /// The lane of a mail; `None` for a homeserver.
    pub lane: Option<Lane>,
    /// Who caused the first row, or is called by it, see [`owner_of`].
    owner: String,
    /// The rows.
    pub rows: Vec<Due>,
}

/// What a destination counts as while it is busy.
struct Busy {
    lane: Option<Lane>,
    owner: String,
}

/// The state of every destination and of the relay, and a cursor into the due rows.
#[derive(Default)]
pub struct Destinations {
    busy: HashMap<Destination, Busy>,
    backoffs: HashMap<Destination, Pause>,
    speeds: DomainSpeeds,
    relay: RelayState,
    cursor: Option<DueCursor>,
}

impl Destinations {
    /// Whether a row could be sent now, if one were due.
    pub fn have_capacity(&self) -> bool {
        self.busy.len() < MAX_BUSY
    }

    /// The next batch of due rows follows this one; `None` starts with the row that has been due the longest.
    pub fn cursor(&self) -> Option<DueCursor> {
        self.cursor.clone()
    }

    /// Adds to `picked` those rows of a batch that may be sent now.
    pub fn pick(&self, rows: Vec<Due>, now: Millis, picked: &mut HashMap<Destination, Batch>) {
        let mut in_use = InUse::default();
        let busy = self.busy.iter().map(|(destination, busy)| (destination.kind, busy.lane, &busy.owner));
        let waiting = picked.iter().map(|(destination, batch)| (destination.kind, batch.lane, &batch.owner));
        busy.chain(waiting).for_each(|(kind, lane, owner)| in_use.count(kind, lane, owner));
        for due in rows {
            let destination = Destination { kind: due.key.kind, host: due.host.clone() };
            if let Some(batch) = picked.get_mut(&destination) {
                if batch.rows.len() < self.max_rows(batch.lane) {
                    batch.rows.push(due);
                }
            } else if let Some(batch) = self.begin_batch(&destination, due, &in_use, now) {
                in_use.count(destination.kind, batch.lane, &batch.owner);
                picked.insert(destination, batch);
            }
        }
    }

    /// A batch with this row, if its destination may be sent to now.
    fn begin_batch(&self, destination: &Destination, due: Due, in_use: &InUse, now: Millis) -> Option<Batch> {
        let is_over = |pause: &Pause| destination.backoff().is_over(pause.until, now);
        let is_in_backoff = || self.backoffs.get(destination).is_some_and(|pause| !is_over(pause));
        let kind = destination.kind;
        let lane = destination.is_mail().then(|| self.speeds.lane(&due.host));
        let may_start = !self.busy.contains_key(destination)
            && !is_in_backoff()
            && in_use.has_room(kind, lane)
            && (lane.is_none() || self.relay.may_try(now, in_use.mails));
        let owner = may_start.then(|| owner_of(&due.homeserver))?;
        in_use.has_room_for(kind, lane, &owner).then(|| Batch { lane, owner, rows: vec![due] })
    }

    fn max_rows(&self, lane: Option<Lane>) -> usize {
        match lane {
            Some(Lane::New | Lane::Slow) => 1,
            Some(Lane::Quick) if self.relay.is_unreachable() => 1,
            None | Some(Lane::Quick) => DESTINATION_BATCH,
        }
    }

    /// Moves the cursor behind a batch. `None` if that was the last one: then the next batch starts from the front.
    pub fn advance_cursor(&mut self, next: Option<DueCursor>) {
        self.cursor = next;
    }

    /// Whether the last turn of a destination failed.
    pub fn failed_before(&self, destination: &Destination) -> bool {
        self.backoffs.get(destination).is_some_and(|pause| pause.failures > 0)
    }

    /// Marks a destination as busy.
    pub fn start(&mut self, destination: Destination, batch: &Batch) {
        self.busy.insert(destination, Busy { lane: batch.lane, owner: batch.owner.clone() });
    }

    /// Ends the turn of a destination. Each failure doubles its backoff; a homeserver that was not asked waits as long as
    /// before, so that its rows leave the places to others.
    pub fn finish(&mut self, destination: Destination, outcome: Outcome, speed: Option<Speed>, now: Millis) {
        let lane = self.busy.remove(&destination).and_then(|busy| busy.lane);
        if destination.is_mail() {
            match outcome {
                Outcome::NothingSent | Outcome::NotAsked => {}
                Outcome::Succeeded | Outcome::FailedAfterSuccess => self.relay.answered(),
                // Silence about a domain that is known for it says nothing about the relay.
                Outcome::Failed if lane == Some(Lane::Slow) => {}
                Outcome::Failed => self.relay.gave_no_answer(&destination.host, now),
                Outcome::RelayUnreachable => self.relay.was_unreachable(now),
            }
            if let Some(speed) = speed {
                self.speeds.remember(&destination.host, speed);
            }
        }
        if outcome == Outcome::NothingSent {
            return;
        }
        let before = self.backoffs.remove(&destination).map_or(0, |pause| pause.failures);
        let failures = match outcome {
            Outcome::FailedAfterSuccess => 1,
            Outcome::Failed => before.saturating_add(1),
            Outcome::NotAsked => before,
            _ => return,
        };
        // A backoff that ended so long ago belongs to a destination that has no rows left.
        self.backoffs.retain(|_, pause| now < pause.until.after(DAY));
        let until = now.after(destination.backoff().wait(failures.max(1)));
        self.backoffs.insert(destination, Pause { failures, until });
    }
}

#[cfg(test)]
mod tests;
