//! Tests of which destinations get rows, and when.

use std::ops::Range;

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
    start(&mut destinations, first.into_iter().filter(|(destination, _)| !destination.is_mail()).collect());
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
    assert_eq!(picked(&destinations, rows(), NOW).into_keys().collect::<Vec<_>>(), [host("hs.example.org")]);
}

#[test]
fn a_host_has_failed_before_until_it_succeeds() {
    let mut destinations = Destinations::default();
    assert!(!destinations.failed_before(&host("hs.test")));
    for (outcome, failed) in [
        (Outcome::Failed, true),
        (Outcome::NotAsked, true),
        (Outcome::FailedAfterSuccess, true),
        (Outcome::Succeeded, false),
        (Outcome::NotAsked, false),
    ] {
        destinations.finish(host("hs.test"), outcome, None, NOW);
        assert_eq!(destinations.failed_before(&host("hs.test")), failed, "{outcome:?}");
    }
}

#[test]
fn a_homeserver_that_was_not_asked_waits_and_leaves_its_place_to_others() {
    let mut destinations = Destinations::default();
    let rows = || vec![to(1, "busy.test"), to(2, "other.test")];
    for _ in 0..9 {
        destinations.finish(host("busy.test"), Outcome::NotAsked, None, NOW);
    }
    let count = |after| picked(&destinations, rows(), NOW.after(Duration::from_millis(after))).len();
    assert_eq!((count(0), count(4999), count(5000)), (1, 1, 2), "the wait does not grow");
}

#[test]
fn each_failure_doubles_the_backoff_until_a_success() {
    let mut destinations = Destinations::default();
    let rows = || vec![to(1, "hs.test"), mail(2, "mail.test")];
    let is_in_backoff_for = |destinations: &Destinations, destination: &Destination, millis: u64| {
        let is_picked = |after| picked(destinations, rows(), Millis(NOW.0 + after)).contains_key(destination);
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

/// A mail to each of these domains, caused by as many homeservers of one registrable domain.
fn mails_of<'a>(numbers: Range<usize>, name: &'a str, inviter: &'a str) -> impl Iterator<Item = Due> + 'a {
    let homeserver = move |number| format!("hs{number}.{inviter}");
    numbers.map(move |number| Due {
        homeserver: homeserver(number),
        ..mail(number, &format!("{name}{number}.test"))
    })
}

fn remember(destinations: &mut Destinations, numbers: Range<usize>, name: &str, speed: Speed) {
    for number in numbers {
        let domain = mailboxes(&format!("{name}{number}.test"));
        destinations.finish(domain, Outcome::Succeeded, Some(speed), NOW);
    }
}

#[test]
fn slow_domains_of_one_inviting_domain_have_one_place_and_one_row_a_turn_and_hold_up_no_other_inviter() {
    let mut destinations = Destinations::default();
    remember(&mut destinations, 0..500, "slow", Speed::Slow);
    let slow = || mails_of(0..499, "slow", "evil.test").chain(mails_of(0..250, "slow", "evil.test"));
    let honest = || mails_of(499..500, "slow", "hs.test");
    let first = picked(&destinations, slow().chain(honest()).collect(), NOW);
    let rows: Vec<_> = first.values().map(|batch| (batch.lane, batch.rows.len())).collect();
    assert_eq!(rows, [(Some(Lane::Slow), 1); 2]);
    assert!(first.contains_key(&mailboxes("slow499.test")));
    start(&mut destinations, first);
    assert!(picked(&destinations, slow().chain(honest()).collect(), NOW).is_empty(), "while they are busy");
    // One quick mail, and the domain is as any other.
    destinations.finish(mailboxes("slow7.test"), Outcome::Succeeded, Some(Speed::Quick), NOW);
    let again = picked(&destinations, slow().collect(), NOW);
    assert_eq!(again.into_keys().collect::<Vec<_>>(), [mailboxes("slow7.test")]);
}

#[test]
fn fresh_and_quick_domains_of_one_inviting_domain_leave_places_to_others() {
    for quick in [None, Some(Speed::Quick)] {
        let mut destinations = Destinations::default();
        if let Some(speed) = quick {
            remember(&mut destinations, 0..500, "mail", speed);
        }
        let mails = mails_of(0..499, "mail", "evil.test").chain(mails_of(499..500, "mail", "hs.test"));
        let picked = picked(&destinations, mails.collect(), NOW);
        assert_eq!(picked.len(), MAX_CONCURRENT_OF_DOMAIN + 1, "{quick:?}");
        assert!(picked.contains_key(&mailboxes("mail499.test")));
    }
}

#[test]
fn a_mail_that_failed_while_the_relay_was_down_is_not_slow() {
    let mut destinations = Destinations::default();
    let mut rows = vec![mail(1, "a.test"), mail(2, "b.test")];
    rows.iter_mut().for_each(|due| due.row.failures = 9);
    destinations.finish(mailboxes("a.test"), Outcome::RelayUnreachable, None, NOW);
    destinations.finish(mailboxes("b.test"), Outcome::Succeeded, None, NOW);
    let picked = picked(&destinations, rows, NOW.after(MAIL_MAX_BACKOFF));
    assert!(picked.len() == 2 && picked.values().all(|batch| batch.lane == Some(Lane::New)));
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
