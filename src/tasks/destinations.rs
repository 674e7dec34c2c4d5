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
    /// The destination failed after it had taken at least one row.
    FailedAfterSuccess,
    /// The destination took no row.
    Failed,
    /// The relay cannot be reached, whatever the destination.
    RelayUnreachable,
}

/// Nothing is sent before `until`.
struct Pause {
    /// How many there were without a success in between.
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
        let lane = destination.is_mail().then(|| self.speeds.lane(&due.host, &due.row));
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
        self.backoffs.contains_key(destination)
    }

    /// Marks a destination as busy.
    pub fn start(&mut self, destination: Destination, batch: &Batch) {
        self.busy.insert(destination, Busy { lane: batch.lane, owner: batch.owner.clone() });
    }

    /// Ends the turn of a destination. Each failure doubles its backoff.
    pub fn finish(&mut self, destination: Destination, outcome: Outcome, speed: Option<Speed>, now: Millis) {
        let lane = self.busy.remove(&destination).and_then(|busy| busy.lane);
        if destination.is_mail() {
            match outcome {
                Outcome::NothingSent => {}
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
    use crate::tasks::in_use::{MAX_CONCURRENT, MAX_CONCURRENT_OF_DOMAIN};

    const NOW: Millis = Millis(1_800_000_000_000);

    fn row(number: usize, payload: Payload, host: &str) -> Due {
        let token = Token::parse(&format!("{number:06}")).expect("a token");
        let key = OutboxKey { kind: payload.kind(), token };
        let homeserver = match &payload {
            Payload::OnBind(_) => host.to_owned(),
            _ => format!("inviter{number}.test"),
        };
        Due { key, row: Outgoing::new(payload, NOW), host: host.to_owned(), homeserver }
    }

    fn to(number: usize, server: &str) -> Due {
        let user = UserId::parse(&format!("@a:{server}")).expect("a user ID");
        row(number, Payload::OnBind(user), &host_key(server))
    }

    fn mail(number: usize, domain: &str) -> Due {
        row(number, Payload::InvitationMail(Described::default()), domain)
    }

    fn picked(destinations: &Destinations, rows: Vec<Due>, now: Millis) -> HashMap<Destination, Batch> {
        let mut picked = HashMap::new();
        destinations.pick(rows, now, &mut picked);
        picked
    }

    /// Marks all of these as busy.
    fn start(destinations: &mut Destinations, picked: HashMap<Destination, Batch>) {
        picked.into_iter().for_each(|(destination, batch)| destinations.start(destination, &batch));
    }

    /// Picks these rows, and marks their destinations as busy.
    fn start_with(destinations: &mut Destinations, rows: Vec<Due>) {
        let picked = picked(destinations, rows, NOW);
        start(destinations, picked);
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
        start(
            &mut destinations,
            first.into_iter().filter(|(destination, _)| !destination.is_mail()).collect(),
        );
        let second = picked(&destinations, homeservers().chain(mails()).collect(), NOW);
        assert_eq!(second.len(), MAX_CONCURRENT);
        assert!(second.keys().all(Destination::is_mail));
    }

    #[test]
    fn a_domain_about_which_the_relay_is_silent_stops_no_mail_to_others_but_several_do() {
        let mut destinations = Destinations::default();
        let rows = || {
            [(1, "a.test"), (2, "b.test"), (3, "c.test"), (4, "d.test"), (5, "e.test")]
                .map(|(number, domain)| mail(number, domain))
                .to_vec()
        };
        let count = |destinations: &Destinations, after| {
            picked(destinations, rows(), NOW.after(Duration::from_secs(after))).len()
        };
        for (domain, left) in [("a.test", 4), ("b.test", 3), ("c.test", 0)] {
            destinations.finish(mailboxes(domain), Outcome::Failed, None, NOW);
            assert_eq!(count(&destinations, 0), left, "{domain}");
        }
        assert_eq!((count(&destinations, 4), count(&destinations, 5)), (0, 5));
        destinations.finish(mailboxes("d.test"), Outcome::Succeeded, None, NOW);
        assert_eq!(count(&destinations, 0), 2);
        // One mail finds out whether a relay that was unreachable is there again.
        destinations.finish(mailboxes("d.test"), Outcome::RelayUnreachable, None, NOW);
        assert_eq!((count(&destinations, 4), count(&destinations, 5)), (0, 1));
    }

    #[test]
    fn a_host_is_one_destination_whatever_its_ports() {
        let rows = (1..100).map(|port| to(port, &format!("Evil.test:{port}"))).collect();
        let picked = picked(&Destinations::default(), rows, NOW);
        assert_eq!(picked.len(), 1);
        assert_eq!(picked[&host("evil.test")].rows.len(), DESTINATION_BATCH);
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
        start(&mut destinations, first);
        assert!(picked(&destinations, rows(), NOW).is_empty());
        destinations.finish(host("hs.example.org"), Outcome::Succeeded, None, NOW);
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
            destinations.finish(host("hs.test"), outcome, None, NOW);
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
            destinations.finish(host("hs.test"), Outcome::Failed, None, NOW);
            assert!(is_in_backoff_for(&destinations, &host("hs.test"), wait * 1000), "{wait}");
            destinations.finish(mailboxes("mail.test"), Outcome::Failed, None, NOW);
            assert!(is_in_backoff_for(&destinations, &mailboxes("mail.test"), wait.min(60) * 1000), "{wait}");
        }
        destinations.finish(host("hs.test"), Outcome::FailedAfterSuccess, None, NOW);
        assert!(is_in_backoff_for(&destinations, &host("hs.test"), 5000));
        destinations.finish(host("hs.test"), Outcome::Succeeded, None, NOW);
        assert!(picked(&destinations, rows(), NOW).contains_key(&host("hs.test")));
        destinations.finish(host("hs.test"), Outcome::Failed, None, NOW);
        assert!(is_in_backoff_for(&destinations, &host("hs.test"), 5000));
    }

    #[test]
    fn rows_of_others_are_found_behind_thousands_of_a_busy_one() {
        let mut destinations = Destinations::default();
        start_with(&mut destinations, vec![to(0, "busy.test")]);
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

    #[test]
    fn slow_domains_have_one_lane_of_each_kind_whatever_their_number_and_one_mail_a_turn() {
        let mut destinations = Destinations::default();
        for number in 0..500 {
            let (domain, at) = (mailboxes(&format!("slow{number}.test")), NOW);
            destinations.finish(domain, Outcome::Succeeded, Some(Speed::Slow), at);
        }
        let slow = || (0..500).flat_map(|n| [n, n + 500].map(|row| mail(row, &format!("slow{n}.test"))));
        let honest = || (1000..1005).map(|number| mail(number, &format!("honest{number}.test")));
        let first = picked(&destinations, slow().chain(honest()).collect(), NOW);
        let of_lane = |picked: &HashMap<Destination, Batch>, lane| {
            picked
                .values()
                .filter(|batch| batch.lane == Some(lane))
                .map(|batch| batch.rows.len())
                .collect::<Vec<_>>()
        };
        assert_eq!((of_lane(&first, Lane::Slow), of_lane(&first, Lane::New)), (vec![1], vec![1; 5]));
        start(&mut destinations, first);
        assert!(picked(&destinations, slow().collect(), NOW).is_empty(), "while one is busy");
        // One quick mail, and the domain is as any other.
        destinations.finish(mailboxes("slow7.test"), Outcome::Succeeded, Some(Speed::Quick), NOW);
        let again = picked(&destinations, slow().collect(), NOW);
        assert_eq!(again.into_keys().collect::<Vec<_>>(), [mailboxes("slow7.test")]);
    }

    #[test]
    fn fresh_domains_of_one_inviting_homeserver_leave_places_to_others() {
        let destinations = Destinations::default();
        let mails = (0..500).map(|number| {
            let homeserver =
                if number < 499 { format!("hs{number}.evil.test") } else { "hs.test".to_owned() };
            Due { homeserver, ..mail(number, &format!("fresh{number}.test")) }
        });
        let picked = picked(&destinations, mails.collect(), NOW);
        assert_eq!(picked.len(), MAX_CONCURRENT_OF_DOMAIN + 1);
        assert!(picked.contains_key(&mailboxes("fresh499.test")));
    }

    #[test]
    fn one_silence_is_enough_for_a_backoff_and_silence_about_slow_domains_stops_no_other() {
        let mut destinations = Destinations::default();
        for domain in ["a.test", "b.test", "a.test", "b.test", "c.test"] {
            let later = NOW.after(MAIL_MAX_BACKOFF);
            let busy = picked(&destinations, vec![mail(1, domain)], later);
            start(&mut destinations, busy);
            destinations.finish(mailboxes(domain), Outcome::Failed, Some(Speed::Slow), NOW);
        }
        // Three domains are silent: now the relay waits. It does not if the third was known to be slow.
        assert!(picked(&destinations, vec![mail(1, "honest.test")], NOW).is_empty());
        let later = NOW.after(Duration::from_secs(5));
        assert_eq!(picked(&destinations, vec![mail(1, "honest.test")], later).len(), 1);
        for domain in ["a.test", "b.test", "c.test"] {
            let busy = picked(&destinations, vec![mail(1, domain)], NOW.after(MAIL_MAX_BACKOFF));
            start(&mut destinations, busy);
            destinations.finish(mailboxes(domain), Outcome::Failed, Some(Speed::Slow), later);
            assert!(picked(&destinations, vec![mail(1, domain)], later).is_empty(), "{domain} is in backoff");
        }
        assert_eq!(picked(&destinations, vec![mail(1, "honest.test")], later).len(), 1);
    }
}
