//! Picks the destinations that the outbox sends to now: those that are neither busy nor in backoff, up to a limit.
//!
//! The backoff of a destination is kept here and not in its rows, so that rows that were never tried stay as they
//! are.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    domain::{
        backoff::Backoff,
        outbox::{OutboxKey, Outgoing, Payload, RETRY_FIRST, RETRY_MOST},
        server_name::host_key,
        time::{DAY, Millis},
    },
    remote::places::owner_of,
};

/// How many due rows are read at once; each costs a few microseconds.
pub const DUE_BATCH: usize = 1024;
/// How many rows of one destination are sent in one turn.
const DESTINATION_BATCH: usize = 16;
const MAX_CONCURRENT_HOMESERVERS: usize = 32;
/// The share of one registrable domain: hosts in it that never answer must not delay the calls to others.
const MAX_CONCURRENT_OF_DOMAIN: usize = 4;
/// The relay is the operator's own, and all mails wait for it.
const RELAY_MAX_BACKOFF: Duration = Duration::from_secs(60);

/// A row of the outbox with its key.
pub type Row = (OutboxKey, Outgoing);

/// The relay, or the host of a homeserver, whatever its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The mail relay.
    Relay,
    /// See [`host_key`].
    Homeserver(String),
}

impl Destination {
    fn of(payload: &Payload) -> Self {
        match payload {
            Payload::InvitationMail(_) | Payload::OwnerMail(_) => Self::Relay,
            Payload::OnBind(user_id) => Self::Homeserver(host_key(user_id.server_name())),
        }
    }

    /// Who owns a homeserver; `None` for the relay, which has a place of its own.
    fn owner(&self) -> Option<String> {
        match self {
            Self::Relay => None,
            Self::Homeserver(host) => Some(owner_of(host)),
        }
    }

    fn max_backoff(&self) -> Duration {
        match self {
            Self::Relay => RELAY_MAX_BACKOFF,
            Self::Homeserver(_) => RETRY_MOST,
        }
    }
}

/// How a turn of a destination ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next turn may follow at once.
    Succeeded,
    /// The destination failed after it had taken at least one row.
    FailedAfterSuccess,
    /// The destination took no row.
    Failed,
}

/// Nothing is sent before `until`.
struct Pause {
    /// How many there were without a success in between.
    failures: u32,
    until: Millis,
}

/// The state of every destination, and a cursor into the due rows.
#[derive(Default)]
pub struct Destinations {
    busy: HashSet<Destination>,
    backoffs: HashMap<Destination, Pause>,
    cursor: Option<(Millis, OutboxKey)>,
}

impl Destinations {
    /// Whether a row could be sent now, if one were due.
    pub fn have_capacity(&self) -> bool {
        self.capacity() > 0 || !self.busy.contains(&Destination::Relay)
    }

    /// The next batch of due rows follows this one; `None` starts with the row that has been due the longest.
    pub fn cursor(&self) -> Option<&(Millis, OutboxKey)> {
        self.cursor.as_ref()
    }

    /// Adds to `picked` those rows of a batch that may be sent now.
    pub fn pick(&self, rows: Vec<Row>, now: Millis, picked: &mut HashMap<Destination, Vec<Row>>) {
        let mut capacity = self.capacity().saturating_sub(count_homeservers(picked.keys()));
        let mut of_owner: HashMap<String, usize> = HashMap::new();
        for owner in self.busy.iter().chain(picked.keys()).filter_map(Destination::owner) {
            *of_owner.entry(owner).or_default() += 1;
        }
        for (key, row) in rows {
            let destination = Destination::of(&row.payload);
            let is_in_backoff = || self.backoffs.get(&destination).is_some_and(|backoff| now < backoff.until);
            if self.busy.contains(&destination) || is_in_backoff() {
                continue;
            }
            if let Some(batch) = picked.get_mut(&destination) {
                if batch.len() < DESTINATION_BATCH {
                    batch.push((key, row));
                }
            } else if destination == Destination::Relay {
                picked.insert(destination, vec![(key, row)]);
            } else if capacity > 0
                && let Some(owner) = destination.owner()
            {
                let count = of_owner.entry(owner).or_default();
                if *count < MAX_CONCURRENT_OF_DOMAIN {
                    *count += 1;
                    capacity -= 1;
                    picked.insert(destination, vec![(key, row)]);
                }
            }
        }
    }

    /// Moves the cursor behind this batch; `false` if it was the last, and the next one starts from the front.
    pub fn advance_cursor(&mut self, rows: &[Row]) -> bool {
        let last = rows.last().filter(|_| rows.len() == DUE_BATCH);
        self.cursor = last.map(|(key, row)| (row.due, key.clone()));
        self.cursor.is_some()
    }

    /// Whether the last turn of a destination failed.
    pub fn failed_before(&self, destination: &Destination) -> bool {
        self.backoffs.contains_key(destination)
    }

    /// Marks a destination as busy.
    pub fn start(&mut self, destination: Destination) {
        self.busy.insert(destination);
    }

    /// Ends the turn of a destination. Each failure doubles its backoff.
    pub fn finish(&mut self, destination: Destination, outcome: Outcome, now: Millis) {
        self.busy.remove(&destination);
        let before = self.backoffs.remove(&destination).map_or(0, |pause| pause.failures);
        let failures = match outcome {
            Outcome::Succeeded => return,
            Outcome::FailedAfterSuccess => 0,
            Outcome::Failed => before,
        };
        // A backoff that ended so long ago belongs to a destination that has no rows left.
        self.backoffs.retain(|_, pause| now < pause.until.after(DAY));
        let failures = failures.saturating_add(1);
        let backoff = Backoff { first: RETRY_FIRST, cap: destination.max_backoff() };
        self.backoffs.insert(destination, Pause { failures, until: now.after(backoff.wait(failures)) });
    }

    fn capacity(&self) -> usize {
        MAX_CONCURRENT_HOMESERVERS.saturating_sub(count_homeservers(self.busy.iter()))
    }
}

/// The relay has a place of its own.
fn count_homeservers<'a>(destinations: impl Iterator<Item = &'a Destination>) -> usize {
    destinations.filter(|destination| **destination != Destination::Relay).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{Token, UserId},
        invitation::Described,
        outbox::Kind,
    };

    const NOW: Millis = Millis(1_800_000_000_000);

    fn row(number: usize, payload: Payload) -> Row {
        let token = Token::parse(&format!("{number:06}")).expect("a token");
        (OutboxKey { kind: payload.kind(), token }, Outgoing::new(payload, NOW))
    }

    fn to(number: usize, server: &str) -> Row {
        row(number, Payload::OnBind(UserId::parse(&format!("@a:{server}")).expect("a user ID")))
    }

    fn mail(number: usize) -> Row {
        row(number, Payload::InvitationMail(Described::default()))
    }

    fn picked(destinations: &Destinations, rows: Vec<Row>, now: Millis) -> HashMap<Destination, Vec<Row>> {
        let mut picked = HashMap::new();
        destinations.pick(rows, now, &mut picked);
        picked
    }

    fn host(name: &str) -> Destination {
        Destination::Homeserver(name.to_owned())
    }

    #[test]
    fn homeservers_take_no_place_from_the_relay() {
        let mut destinations = Destinations::default();
        let many = || (0..100).map(|number| to(number, &format!("hs{number}.test")));
        let first = picked(&destinations, many().chain([mail(200)]).collect(), NOW);
        assert_eq!(first.len(), MAX_CONCURRENT_HOMESERVERS + 1);
        assert!(first.contains_key(&Destination::Relay));
        for destination in first.into_keys().filter(|destination| *destination != Destination::Relay) {
            destinations.start(destination);
        }
        assert!(destinations.have_capacity());
        let second = picked(&destinations, many().chain([mail(200)]).collect(), NOW);
        assert_eq!(second.into_keys().collect::<Vec<_>>(), [Destination::Relay]);
        destinations.start(Destination::Relay);
        assert!(!destinations.have_capacity());
    }

    #[test]
    fn a_host_is_one_destination_whatever_its_ports() {
        let rows = (1..100).map(|port| to(port, &format!("Evil.test:{port}"))).collect();
        let picked = picked(&Destinations::default(), rows, NOW);
        assert_eq!(picked.len(), 1);
        assert_eq!(picked[&host("evil.test")].len(), DESTINATION_BATCH);
    }

    #[test]
    fn hosts_of_one_domain_leave_places_to_others() {
        let mut destinations = Destinations::default();
        let rows = || {
            let evil = (0..1900).map(|number| to(number, &format!("hs{number}.evil.test:{}", number + 1)));
            let network = (2000..2100).map(|number| to(number, &format!("[2001:db8:0:{number}::1]")));
            evil.chain(network).chain([to(3000, "hs.example.org")]).collect::<Vec<_>>()
        };
        let first = picked(&destinations, rows(), NOW);
        assert_eq!(first.len(), 2 * MAX_CONCURRENT_OF_DOMAIN + 1);
        assert!(first.contains_key(&host("hs.example.org")));
        for destination in first.into_keys() {
            destinations.start(destination);
        }
        assert!(picked(&destinations, rows(), NOW).is_empty());
        destinations.finish(host("hs.example.org"), Outcome::Succeeded, NOW);
        assert_eq!(
            picked(&destinations, rows(), NOW).into_keys().collect::<Vec<_>>(),
            [host("hs.example.org")]
        );
    }

    #[test]
    fn a_host_has_failed_before_until_it_succeeds() {
        let mut destinations = Destinations::default();
        assert!(!destinations.failed_before(&host("hs.test")));
        for (outcome, failed) in
            [(Outcome::Failed, true), (Outcome::FailedAfterSuccess, true), (Outcome::Succeeded, false)]
        {
            destinations.finish(host("hs.test"), outcome, NOW);
            assert_eq!(destinations.failed_before(&host("hs.test")), failed, "{outcome:?}");
        }
    }

    #[test]
    fn each_failure_doubles_the_backoff_until_a_success() {
        let mut destinations = Destinations::default();
        let rows = || vec![to(1, "hs.test"), mail(2)];
        let is_in_backoff_for = |destinations: &Destinations, destination: &Destination, millis: u64| {
            let is_picked =
                |after| picked(destinations, rows(), Millis(NOW.0 + after)).contains_key(destination);
            !is_picked(millis - 1) && is_picked(millis)
        };
        for wait in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            destinations.start(host("hs.test"));
            destinations.finish(host("hs.test"), Outcome::Failed, NOW);
            assert!(is_in_backoff_for(&destinations, &host("hs.test"), wait * 1000), "{wait}");
            destinations.finish(Destination::Relay, Outcome::Failed, NOW);
            assert!(is_in_backoff_for(&destinations, &Destination::Relay, wait.min(60) * 1000), "{wait}");
        }
        destinations.finish(host("hs.test"), Outcome::FailedAfterSuccess, NOW);
        assert!(is_in_backoff_for(&destinations, &host("hs.test"), 5000));
        destinations.finish(host("hs.test"), Outcome::Succeeded, NOW);
        assert!(picked(&destinations, rows(), NOW).contains_key(&host("hs.test")));
        destinations.finish(host("hs.test"), Outcome::Failed, NOW);
        assert!(is_in_backoff_for(&destinations, &host("hs.test"), 5000));
    }

    #[test]
    fn rows_of_others_are_found_behind_thousands_of_a_busy_one() {
        let mut destinations = Destinations::default();
        destinations.start(host("busy.test"));
        let mut all: Vec<Row> = (0..5000).map(|number| to(number, "busy.test")).collect();
        all.push(to(5000, "other.test"));
        let mut found = HashMap::new();
        for step in 0.. {
            let after = destinations.cursor().map_or("", |(_, key)| key.token.as_str()).to_owned();
            let rows = all.iter().filter(|(key, _)| key.kind == Kind::OnBind && key.token.as_str() > &*after);
            let rows: Vec<Row> = rows.take(DUE_BATCH).cloned().collect();
            let has_more = destinations.advance_cursor(&rows);
            destinations.pick(rows, NOW, &mut found);
            assert_eq!(has_more, step < 4, "five steps");
            if !has_more {
                break;
            }
        }
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [host("other.test")]);
        assert!(destinations.cursor().is_none(), "and then from the beginning");
    }
}
