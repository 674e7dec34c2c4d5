//! Which destinations the outbox sends to now: those that are not busy, not resting after a
//! failure, and for which there is room.
//!
//! What was wrong with a destination is remembered here and nowhere else, so that rows that were
//! never tried stay as they are. How something is sent is not its business.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::domain::{
    backoff::Backoff,
    outbox::{OutboxKey, Outgoing, Parcel, RETRY_FIRST, RETRY_MOST},
    server_name::host_key,
    time::{DAY, Millis},
};

/// How many due rows are looked at in one step; each costs a few microseconds.
pub const LOOK_AT: usize = 1024;
/// How many rows of one destination are taken in one go.
const OF_ONE: usize = 16;
/// How many homeservers are sent to at the same time.
const AT_ONCE: usize = 32;
/// The relay never rests for longer: it is one of the operator's own, and all mails wait for it.
const RELAY_RESTS_MOST: Duration = Duration::from_secs(60);

/// A row of the outbox with its key.
pub type Row = (OutboxKey, Outgoing);

/// Where something goes: the relay, or the host of a homeserver, whatever its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The mail relay.
    Relay,
    /// See [`host_key`].
    Homeserver(String),
}

impl Destination {
    fn of(parcel: &Parcel) -> Self {
        match parcel {
            Parcel::InvitationMail(_) | Parcel::OwnerNotice(_) => Self::Relay,
            Parcel::OnBind(user_id) => Self::Homeserver(host_key(user_id.server_name())),
        }
    }

    fn rests_most(&self) -> Duration {
        match self {
            Self::Relay => RELAY_RESTS_MOST,
            Self::Homeserver(_) => RETRY_MOST,
        }
    }
}

/// How it went with the rows that were taken in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The destination may have more at once.
    Well,
    /// It failed after something had gone well.
    Halfway,
    /// It failed at once.
    Badly,
}

/// After a failure.
struct Rest {
    /// How many there were without a success in between.
    failures: u32,
    until: Millis,
}

/// What is known of the destinations, and how far the due rows have been looked through.
#[derive(Default)]
pub struct Lanes {
    busy: HashSet<Destination>,
    resting: HashMap<Destination, Rest>,
    after: Option<(Millis, OutboxKey)>,
}

impl Lanes {
    /// Whether anything could be sent, if it were due.
    pub fn have_room(&self) -> bool {
        self.room() > 0 || !self.busy.contains(&Destination::Relay)
    }

    /// Where the next step begins; `None` at the beginning, with the row that is due the longest.
    pub fn after(&self) -> Option<&(Millis, OutboxKey)> {
        self.after.as_ref()
    }

    /// Adds, of the rows of one step, those to be sent now to what was chosen in this look.
    pub fn choose(&self, rows: Vec<Row>, now: Millis, chosen: &mut HashMap<Destination, Vec<Row>>) {
        let mut room = self.room().saturating_sub(homeservers(chosen.keys()));
        for (key, row) in rows {
            let destination = Destination::of(&row.parcel);
            let is_resting = || self.resting.get(&destination).is_some_and(|rest| now < rest.until);
            if self.busy.contains(&destination) || is_resting() {
                continue;
            }
            if let Some(of_one) = chosen.get_mut(&destination) {
                if of_one.len() < OF_ONE {
                    of_one.push((key, row));
                }
            } else if destination == Destination::Relay || room > 0 {
                room -= usize::from(destination != Destination::Relay);
                chosen.insert(destination, vec![(key, row)]);
            }
        }
    }

    /// Notes where the next step begins, after these rows; `false` if that is at the beginning.
    pub fn go_on_after(&mut self, rows: &[Row]) -> bool {
        let last = rows.last().filter(|_| rows.len() == LOOK_AT);
        self.after = last.map(|(key, row)| (row.due, key.clone()));
        self.after.is_some()
    }

    /// Something is being sent there.
    pub fn begin(&mut self, destination: Destination) {
        self.busy.insert(destination);
    }

    /// Nothing is being sent there any more. After a failure it rests, twice as long each time.
    pub fn end(&mut self, destination: Destination, ended: Ended, now: Millis) {
        self.busy.remove(&destination);
        let before = self.resting.remove(&destination).map_or(0, |rest| rest.failures);
        let failures = match ended {
            Ended::Well => return,
            Ended::Halfway => 0,
            Ended::Badly => before,
        };
        // Those of which nothing was heard for so long have nothing left to be sent.
        self.resting.retain(|_, rest| now < rest.until.after(DAY));
        let failures = failures.saturating_add(1);
        let until = now.after(Backoff { first: RETRY_FIRST, cap: destination.rests_most() }.wait(failures));
        self.resting.insert(destination, Rest { failures, until });
    }

    fn room(&self) -> usize {
        AT_ONCE.saturating_sub(homeservers(self.busy.iter()))
    }
}

/// The relay takes no room from homeservers, nor they from it.
fn homeservers<'a>(destinations: impl Iterator<Item = &'a Destination>) -> usize {
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

    fn row(number: usize, parcel: Parcel) -> Row {
        let token = Token::parse(&format!("{number:06}")).expect("a token");
        (OutboxKey { kind: parcel.kind(), token }, Outgoing::new(parcel, NOW))
    }

    fn to(number: usize, server: &str) -> Row {
        row(number, Parcel::OnBind(UserId::parse(&format!("@a:{server}")).expect("a user ID")))
    }

    fn mail(number: usize) -> Row {
        row(number, Parcel::InvitationMail(Described::default()))
    }

    fn chosen(lanes: &Lanes, rows: Vec<Row>, now: Millis) -> HashMap<Destination, Vec<Row>> {
        let mut chosen = HashMap::new();
        lanes.choose(rows, now, &mut chosen);
        chosen
    }

    fn host(name: &str) -> Destination {
        Destination::Homeserver(name.to_owned())
    }

    #[test]
    fn homeservers_take_no_room_from_the_relay() {
        let mut lanes = Lanes::default();
        let many = || (0..100).map(|number| to(number, &format!("hs{number}.test")));
        let first = chosen(&lanes, many().chain([mail(200)]).collect(), NOW);
        assert_eq!(first.len(), AT_ONCE + 1);
        assert!(first.contains_key(&Destination::Relay));
        for destination in first.into_keys().filter(|destination| *destination != Destination::Relay) {
            lanes.begin(destination);
        }
        assert!(lanes.have_room());
        let second = chosen(&lanes, many().chain([mail(200)]).collect(), NOW);
        assert_eq!(second.into_keys().collect::<Vec<_>>(), [Destination::Relay]);
        lanes.begin(Destination::Relay);
        assert!(!lanes.have_room());
    }

    #[test]
    fn a_host_is_one_destination_whatever_its_ports() {
        let rows = (1..100).map(|port| to(port, &format!("Evil.test:{port}"))).collect();
        let chosen = chosen(&Lanes::default(), rows, NOW);
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[&host("evil.test")].len(), OF_ONE);
    }

    #[test]
    fn a_destination_that_failed_rests_longer_each_time_until_it_works() {
        let mut lanes = Lanes::default();
        let rows = || vec![to(1, "hs.test"), mail(2)];
        let rests = |lanes: &Lanes, destination: &Destination, millis: u64| {
            let is_chosen = |after| chosen(lanes, rows(), Millis(NOW.0 + after)).contains_key(destination);
            !is_chosen(millis - 1) && is_chosen(millis)
        };
        for wait in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            lanes.begin(host("hs.test"));
            lanes.end(host("hs.test"), Ended::Badly, NOW);
            assert!(rests(&lanes, &host("hs.test"), wait * 1000), "{wait}");
            lanes.end(Destination::Relay, Ended::Badly, NOW);
            assert!(rests(&lanes, &Destination::Relay, wait.min(60) * 1000), "{wait}");
        }
        lanes.end(host("hs.test"), Ended::Halfway, NOW);
        assert!(rests(&lanes, &host("hs.test"), 5000));
        lanes.end(host("hs.test"), Ended::Well, NOW);
        assert!(chosen(&lanes, rows(), NOW).contains_key(&host("hs.test")));
        lanes.end(host("hs.test"), Ended::Badly, NOW);
        assert!(rests(&lanes, &host("hs.test"), 5000));
    }

    #[test]
    fn rows_of_others_are_found_behind_thousands_of_a_busy_one() {
        let mut lanes = Lanes::default();
        lanes.begin(host("busy.test"));
        let mut all: Vec<Row> = (0..5000).map(|number| to(number, "busy.test")).collect();
        all.push(to(5000, "other.test"));
        let mut found = HashMap::new();
        for step in 0.. {
            let after = lanes.after().map_or("", |(_, key)| key.token.as_str()).to_owned();
            let rows = all.iter().filter(|(key, _)| key.kind == Kind::OnBind && key.token.as_str() > &*after);
            let rows: Vec<Row> = rows.take(LOOK_AT).cloned().collect();
            let goes_on = lanes.go_on_after(&rows);
            lanes.choose(rows, NOW, &mut found);
            assert_eq!(goes_on, step < 4, "five steps");
            if !goes_on {
                break;
            }
        }
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [host("other.test")]);
        assert!(lanes.after().is_none(), "and then from the beginning");
    }
}
