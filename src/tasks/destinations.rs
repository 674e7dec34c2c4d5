//! Picks the destinations that the outbox sends to now: those that are neither busy nor in backoff, up to a limit.
//!
//! The backoff of a destination is kept here and not in its rows, so that rows that were never tried stay as they
//! are.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::relay_state::RelayState;
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
/// How many destinations of each kind are sent to at once. The kinds do not share this limit, so that none delays
/// another.
const MAX_CONCURRENT: usize = 32;
/// How many homeservers of one registrable domain are called at once. If none of them answers, the calls to others must
/// not wait for them.
const MAX_CONCURRENT_OF_DOMAIN: usize = 4;
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
    /// The destination failed after it had taken at least one row.
    FailedAfterSuccess,
    /// The destination took no row.
    Failed,
    /// The relay gave no answer to any mail of this turn, but there were too few to say that it fails.
    Unanswered,
    /// The relay cannot be reached, whatever the destination.
    RelayUnreachable,
}

/// Nothing is sent before `until`.
struct Pause {
    /// How many there were without a success in between.
    failures: u32,
    until: Millis,
}

/// How many destinations are busy or picked.
#[derive(Default)]
struct InUse {
    of_kind: HashMap<Kind, usize>,
    of_owner: HashMap<String, usize>,
    mails: usize,
}

impl InUse {
    fn count(&mut self, destination: &Destination) {
        *self.of_kind.entry(destination.kind).or_default() += 1;
        match destination.is_mail() {
            true => self.mails += 1,
            false => *self.of_owner.entry(owner_of(&destination.host)).or_default() += 1,
        }
    }

    fn has_room(&self, destination: &Destination) -> bool {
        let of_kind = self.of_kind.get(&destination.kind).copied().unwrap_or(0);
        let of_owner = || self.of_owner.get(&owner_of(&destination.host)).copied().unwrap_or(0);
        of_kind < MAX_CONCURRENT && (destination.is_mail() || of_owner() < MAX_CONCURRENT_OF_DOMAIN)
    }
}

/// The state of every destination and of the relay, and a cursor into the due rows.
#[derive(Default)]
pub struct Destinations {
    busy: HashSet<Destination>,
    backoffs: HashMap<Destination, Pause>,
    relay: RelayState,
    cursor: Option<DueCursor>,
}

impl Destinations {
    /// Whether a row could be sent now, if one were due.
    pub fn have_capacity(&self) -> bool {
        self.busy.len() < Kind::ALL.len() * MAX_CONCURRENT
    }

    /// The next batch of due rows follows this one; `None` starts with the row that has been due the longest.
    pub fn cursor(&self) -> Option<DueCursor> {
        self.cursor.clone()
    }

    /// Adds to `picked` those rows of a batch that may be sent now.
    pub fn pick(&self, rows: Vec<Due>, now: Millis, picked: &mut HashMap<Destination, Vec<Due>>) {
        let mut in_use = InUse::default();
        self.busy.iter().chain(picked.keys()).for_each(|destination| in_use.count(destination));
        for due in rows {
            let destination = Destination { kind: due.key.kind, host: due.host.clone() };
            if let Some(batch) = picked.get_mut(&destination) {
                if batch.len() < self.max_rows(&destination) {
                    batch.push(due);
                }
            } else if self.may_start(&destination, &in_use, now) {
                in_use.count(&destination);
                picked.insert(destination, vec![due]);
            }
        }
    }

    fn may_start(&self, destination: &Destination, in_use: &InUse, now: Millis) -> bool {
        let is_over = |pause: &Pause| destination.backoff().is_over(pause.until, now);
        let is_in_backoff = || self.backoffs.get(destination).is_some_and(|pause| !is_over(pause));
        !self.busy.contains(destination)
            && !is_in_backoff()
            && in_use.has_room(destination)
            && (!destination.is_mail() || self.relay.may_try(now, in_use.mails))
    }

    fn max_rows(&self, destination: &Destination) -> usize {
        match destination.is_mail() && self.relay.is_unreachable() {
            true => 1,
            false => DESTINATION_BATCH,
        }
    }

    /// Moves the cursor behind a batch. `None` if that was the last one: then the next batch starts from the front.
    pub fn advance_cursor(&mut self, next: Option<DueCursor>) {
        self.cursor = next;
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
        if destination.is_mail() {
            match outcome {
                Outcome::NothingSent => {}
                Outcome::Succeeded | Outcome::FailedAfterSuccess => self.relay.answered(),
                Outcome::Failed | Outcome::Unanswered => self.relay.gave_no_answer(&destination.host, now),
                Outcome::RelayUnreachable => self.relay.was_unreachable(now),
            }
        }
        if outcome == Outcome::NothingSent {
            return;
        }
        let before = self.backoffs.remove(&destination).map_or(0, |pause| pause.failures);
        let failures = match outcome {
            Outcome::FailedAfterSuccess => 0,
            Outcome::Failed => before,
            _ => return,
        };
        // A backoff that ended so long ago belongs to a destination that has no rows left.
        self.backoffs.retain(|_, pause| now < pause.until.after(DAY));
        let failures = failures.saturating_add(1);
        let until = now.after(destination.backoff().wait(failures));
        self.backoffs.insert(destination, Pause { failures, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{Token, UserId},
        invitation::Described,
        outbox::{OutboxKey, Outgoing, Payload},
        server_name::host_key,
    };

    const NOW: Millis = Millis(1_800_000_000_000);

    fn row(number: usize, payload: Payload, host: &str) -> Due {
        let token = Token::parse(&format!("{number:06}")).expect("a token");
        let key = OutboxKey { kind: payload.kind(), token };
        Due { key, row: Outgoing::new(payload, NOW), host: host.to_owned() }
    }

    fn to(number: usize, server: &str) -> Due {
        let user = UserId::parse(&format!("@a:{server}")).expect("a user ID");
        row(number, Payload::OnBind(user), &host_key(server))
    }

    fn mail(number: usize, domain: &str) -> Due {
        row(number, Payload::InvitationMail(Described::default()), domain)
    }

    fn picked(destinations: &Destinations, rows: Vec<Due>, now: Millis) -> HashMap<Destination, Vec<Due>> {
        let mut picked = HashMap::new();
        destinations.pick(rows, now, &mut picked);
        picked
    }

    fn host(name: &str) -> Destination {
        Destination { kind: Kind::OnBind, host: name.to_owned() }
    }

    fn mailboxes(domain: &str) -> Destination {
        Destination { kind: Kind::InvitationMail, host: domain.to_owned() }
    }

    #[test]
    fn no_kind_takes_a_place_from_another() {
        let mut destinations = Destinations::default();
        let homeservers = || (0..100).map(|number| to(number, &format!("hs{number}.test")));
        let mails = || (100..200).map(|number| mail(number, &format!("mail{number}.test")));
        let first = picked(&destinations, homeservers().chain(mails()).collect(), NOW);
        assert_eq!(first.len(), 2 * MAX_CONCURRENT);
        for destination in first.into_keys().filter(|destination| !destination.is_mail()) {
            destinations.start(destination);
        }
        let second = picked(&destinations, homeservers().chain(mails()).collect(), NOW);
        assert_eq!(second.len(), MAX_CONCURRENT);
        assert!(second.keys().all(Destination::is_mail));
    }

    #[test]
    fn a_domain_about_which_the_relay_is_silent_stops_no_mail_to_others_but_several_do() {
        let mut destinations = Destinations::default();
        let rows =
            || ["a.test", "b.test", "c.test", "d.test", "e.test"].map(|domain| mail(1, domain)).to_vec();
        let count = |destinations: &Destinations, after| {
            picked(destinations, rows(), NOW.after(Duration::from_secs(after))).len()
        };
        for (domain, left) in [("a.test", 4), ("b.test", 3), ("c.test", 0)] {
            destinations.finish(mailboxes(domain), Outcome::Failed, NOW);
            assert_eq!(count(&destinations, 0), left, "{domain}");
        }
        assert_eq!((count(&destinations, 4), count(&destinations, 5)), (0, 5));
        destinations.finish(mailboxes("d.test"), Outcome::Succeeded, NOW);
        assert_eq!(count(&destinations, 0), 2);
        // One mail finds out whether a relay that was unreachable is there again.
        destinations.finish(mailboxes("d.test"), Outcome::RelayUnreachable, NOW);
        assert_eq!((count(&destinations, 4), count(&destinations, 5)), (0, 1));
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
        let rows = || vec![to(1, "hs.test"), mail(2, "mail.test")];
        let is_in_backoff_for = |destinations: &Destinations, destination: &Destination, millis: u64| {
            let is_picked =
                |after| picked(destinations, rows(), Millis(NOW.0 + after)).contains_key(destination);
            !is_picked(millis - 1) && is_picked(millis)
        };
        for wait in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            destinations.start(host("hs.test"));
            destinations.finish(host("hs.test"), Outcome::Failed, NOW);
            assert!(is_in_backoff_for(&destinations, &host("hs.test"), wait * 1000), "{wait}");
            destinations.start(mailboxes("mail.test"));
            destinations.finish(mailboxes("mail.test"), Outcome::Failed, NOW);
            assert!(is_in_backoff_for(&destinations, &mailboxes("mail.test"), wait.min(60) * 1000), "{wait}");
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
        let mut all: Vec<Due> = (0..5000).map(|number| to(number, "busy.test")).collect();
        all.push(to(5000, "other.test"));
        let mut found = HashMap::new();
        for step in 0.. {
            let after = destinations.cursor().map_or(String::new(), |(_, key)| key.token.as_str().to_owned());
            let rows = all.iter().filter(|due| *due.key.token.as_str() > *after);
            let rows: Vec<Due> = rows.take(DUE_BATCH).cloned().collect();
            let last = rows.last().filter(|_| rows.len() == DUE_BATCH);
            destinations.advance_cursor(last.map(|due| (due.row.due, due.key.clone())));
            destinations.pick(rows, NOW, &mut found);
            assert_eq!(destinations.cursor().is_some(), step < 4, "five steps");
            if destinations.cursor().is_none() {
                break;
            }
        }
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [host("other.test")]);
        assert!(destinations.cursor().is_none(), "and then from the beginning");
    }
}
