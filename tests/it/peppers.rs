//! Pepper rotation: no correct lookup fails during a rotation, even after a crash at any step, and no file keeps
//! a dropped pepper or index.

mod property;

use std::time::Duration;

use bindery::{
    domain::{
        audit::{By, Deed},
        clock::Clock,
        language::Language,
        lookup::{LookupHash, PepperState},
        retention::PEPPER_GRACE,
        server_name::ServerName,
    },
    ops::{
        Core,
        account::tokens::Authenticated,
        lookup::{
            self, Lookup,
            pepper::{self, Kept, Preparation, Rotated},
        },
    },
    store::Store,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Server, TestClock, User,
    core::{authenticated, core_in_memory, core_on, find, user},
    files_with, hash,
    storage::{Frozen, association, holds, open},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn publish(store: &Store, numbers: impl IntoIterator<Item = usize> + Send + 'static) {
    let publish = store.write(move |tables| {
        numbers.into_iter().try_for_each(|number| tables.put_association(&association(number), Language::En))
    });
    publish.await.expect("written");
}

async fn withdraw(store: &Store, number: usize) {
    let withdraw = store.write(move |tables| tables.remove_association(&association(number).address));
    withdraw.await.expect("written");
}

/// Whether a lookup with this pepper finds a person; `None` if the pepper is refused.
fn finds(core: &Core, looker: &Authenticated, pepper: &str, number: usize) -> Option<bool> {
    let association = association(number);
    let found = find(core, looker, pepper, &association.address).ok()?;
    assert!(found.as_ref().is_none_or(|found| found == association.user_id.as_str()));
    Some(found.is_some())
}

fn states(store: &Store) -> Vec<PepperState> {
    store.read().peppers().iter().map(|index| index.state).collect()
}

fn audited(store: &Store) -> Vec<(Deed, By)> {
    let snapshot = store.read();
    let entries = (0..10).map_while(|number| snapshot.audit_entry(number).expect("readable"));
    entries.map(|entry| (entry.deed, entry.by)).collect()
}

#[tokio::test]
async fn a_lookup_finds_what_is_published_before_during_and_after() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let looker = authenticated(&core, user(0)).await;
    publish(&core.store, 0..20).await;
    let old = lookup::pepper(&core);
    let mut preparation = Preparation::begin(&core.store, clock.now()).await.expect("begun");
    // People bind and unbind on both sides of the copy's cursor.
    let mut steps = 0;
    while preparation.step(&core.store, 5).await.expect("filled") {
        withdraw(&core.store, steps).await;
        withdraw(&core.store, 19 - steps).await;
        publish(&core.store, 20 + 2 * steps..22 + 2 * steps).await;
        steps += 1;
    }
    assert!(steps >= 4);
    assert_eq!(lookup::pepper(&core), old, "clients do not get it before its index is complete");
    let (left, there) = ([0, 1, 18, 19], [4, 10, 20, 27]);
    clock.forward(Duration::from_secs(1));
    let rotated = preparation.put_in_use(&core.store, clock.now(), By::Operator).await.expect("complete");
    assert_eq!(rotated.addresses, core.store.read().published().expect("readable"));
    let new = lookup::pepper(&core);
    assert!(new != old && new.len() == 24 && new.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert_eq!(core.store.read().index().created, clock.now(), "it came into use now");
    withdraw(&core.store, 4).await;
    publish(&core.store, [100]).await;
    for pepper in [&old, &new] {
        assert!(left.iter().all(|number| finds(&core, &looker, pepper, *number) == Some(false)));
        assert!(there[1..].iter().all(|number| finds(&core, &looker, pepper, *number) == Some(true)));
        assert_eq!(finds(&core, &looker, pepper, 4), Some(false), "withdrawn during the grace");
        assert_eq!(finds(&core, &looker, pepper, 100), Some(true), "published during the grace");
    }
    clock.forward(PEPPER_GRACE - Duration::from_millis(1));
    let addresses = [hash(association(100).address.as_str(), "email", &old)];
    let request = Lookup { algorithm: "sha256", pepper: &old, addresses: &addresses };
    let mut found = false;
    // The pepper's grace period ends while the lookup runs.
    let forget = || {
        clock.forward(Duration::from_millis(1));
        assert_eq!(finds(&core, &looker, &old, 100), None, "even before it is dropped");
        let forgotten = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(pepper::forget(&core.store, clock.now())).expect("written")
        };
        assert!(std::thread::scope(|scope| scope.spawn(forgotten).join().expect("no panic")));
    };
    lookup::run(&core, &looker, [127, 0, 0, 1].into(), &request, |_, _| {
        forget();
        found = true;
    })
    .expect("a lookup that began in time ends well");
    assert!(found);
    assert_eq!(states(&core.store), [PepperState::Current]);
    assert_eq!(finds(&core, &looker, &new, 100), Some(true));
    assert_eq!(audited(&core.store), [(Deed::PepperRotation, By::Operator)]);
}

async fn pepper_of(server: &Server, user: &User) -> String {
    let details = server.get("/hash_details", user).await.ok();
    details["lookup_pepper"].as_str().expect("a pepper").to_owned()
}

/// Waits until a new pepper replaces `old`.
async fn next_pepper(server: &Server, user: &User, old: &str) -> String {
    let mut pepper = String::new();
    let is_replaced = async || {
        pepper = pepper_of(server, user).await;
        pepper != old
    };
    server.until("the pepper is replaced", is_replaced).await;
    pepper
}

#[tokio::test]
async fn a_week_later_there_is_a_new_one_and_clients_are_told() {
    let mut server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, "alice@example.org", "secret").await;
    let first = pepper_of(&server, &alice).await;
    server.clock.forward(7 * DAY - Duration::from_secs(60));
    // When this request is answered, the task has read the clock.
    server.bind(&alice, "other@example.org", "other").await;
    assert_eq!(pepper_of(&server, &alice).await, first);
    server.clock.forward(Duration::from_secs(60));
    let second = next_pepper(&server, &alice, &first).await;
    for pepper in [&first, &second] {
        let hash = hash("alice@example.org", "email", pepper);
        let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [hash] });
        assert_eq!(server.post("/lookup", &alice, &body).await.ok()["mappings"][&hash], json!(alice.id));
    }
    // It also rotates when the server was stopped for longer.
    server.clock.forward(30 * DAY);
    server = server.restart(|_| {});
    let third = next_pepper(&server, &alice, &second).await;
    for stale in [&first, "never-told"] {
        let body = json!({ "algorithm": "sha256", "pepper": stale, "addresses": ["x"] });
        let refused = server.post("/lookup", &alice, &body).await.refused(400, "M_INVALID_PEPPER");
        assert_eq!((&refused["lookup_pepper"], &refused["algorithm"]), (&json!(third), &json!("sha256")));
    }
    assert_eq!(server.find(&alice, "alice@example.org").await, Some(alice.id.clone()));
}

#[tokio::test]
async fn an_operator_chooses_how_often_and_the_clock_may_be_wrong() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let looker = authenticated(&core, user(0)).await;
    publish(&core.store, 0..3).await;
    let nothing = Kept::default();
    assert_eq!(pepper::keep(&core).await.expect("kept"), nothing);
    clock.forward(7 * DAY);
    let kept = pepper::keep(&core).await.expect("kept");
    assert_eq!(kept.rotated, Some(Rotated { addresses: 3 }));
    assert_eq!(audited(&core.store), [(Deed::PepperRotation, By::Server)]);
    let (previous, current) = (core.store.read().peppers()[1].pepper.clone(), lookup::pepper(&core));
    // The clock was wrong, and now it is corrected.
    clock.back(300 * DAY);
    assert_eq!(pepper::keep(&core).await.expect("kept"), nothing);
    assert_eq!(
        (finds(&core, &looker, &previous, 1), finds(&core, &looker, &current, 1)),
        (Some(true), Some(true))
    );
    clock.forward(PEPPER_GRACE);
    assert!(pepper::keep(&core).await.expect("kept").forgotten, "the grace is as long as ever");
    assert_eq!(finds(&core, &looker, &previous, 1), None);
    clock.forward(7 * DAY - PEPPER_GRACE - Duration::from_millis(1));
    assert_eq!(pepper::keep(&core).await.expect("kept"), nothing);
    clock.forward(Duration::from_millis(1));
    assert!(pepper::keep(&core).await.expect("kept").rotated.is_some(), "and so is the week");
}

#[tokio::test]
async fn one_at_a_time_and_each_may_be_followed_at_once() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let looker = authenticated(&core, user(0)).await;
    let first = lookup::pepper(&core);
    let (one, other) = tokio::join!(pepper::rotate(&core, By::Operator), pepper::rotate(&core, By::Operator));
    assert_eq!(one.expect("done"), Rotated { addresses: 0 }, "a rotation works without bindings");
    assert!(other.expect_err("busy").to_string().contains("already"));
    publish(&core.store, 0..3).await;
    let second = lookup::pepper(&core);
    clock.forward(Duration::from_secs(60));
    pepper::rotate(&core, By::Operator).await.expect("done");
    let third = lookup::pepper(&core);
    for pepper in [&first, &second, &third] {
        assert_eq!(finds(&core, &looker, pepper, 2), Some(true), "a pepper fetched a minute ago still works");
    }
    clock.forward(PEPPER_GRACE - Duration::from_secs(60));
    assert!(pepper::forget(&core.store, clock.now()).await.expect("written"));
    assert_eq!((finds(&core, &looker, &first, 2), finds(&core, &looker, &second, 2)), (None, Some(true)));
    clock.forward(Duration::from_secs(60));
    assert!(pepper::forget(&core.store, clock.now()).await.expect("written"));
    assert_eq!((finds(&core, &looker, &second, 2), finds(&core, &looker, &third, 2)), (None, Some(true)));
}

#[tokio::test]
async fn what_is_not_complete_is_never_put_in_use() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let looker = authenticated(&core, user(0)).await;
    publish(&core.store, 0..3).await;
    let pepper = lookup::pepper(&core);
    let mut preparation = Preparation::begin(&core.store, clock.now()).await.expect("begun");
    preparation.step(&core.store, 2).await.expect("filled");
    let error = preparation.put_in_use(&core.store, clock.now(), By::Server).await.expect_err("too early");
    assert!(error.to_string().contains("incomplete"), "{error}");
    assert_eq!((lookup::pepper(&core), states(&core.store)), (pepper.clone(), vec![PepperState::Current]));
    assert!(audited(&core.store).is_empty());
    pepper::rotate(&core, By::Operator).await.expect("from the beginning");
    assert_ne!(lookup::pepper(&core), pepper);
    // A rotation that the store refuses changes nothing.
    for number in [0, 1, 99] {
        let at = clock.now();
        assert!(core.store.write(move |tables| tables.switch_pepper(number, at, at)).await.is_err());
    }
    assert_eq!(finds(&core, &looker, &lookup::pepper(&core), 1), Some(true));
}

#[tokio::test]
async fn what_was_dropped_is_in_no_file() {
    const PEOPLE: usize = 600;
    let dir = TempDir::new().expect("a directory");
    let clock = TestClock::new();
    let name = ServerName::parse("id.test").expect("a name");
    let genesis = || bindery::ops::genesis(clock.now());
    let store = Store::open(dir.path(), 1 << 20, &name, genesis).expect("a database");
    let core = core_on(store, clock.clone()).await;
    let looker = authenticated(&core, user(0)).await;
    publish(&core.store, 0..PEOPLE).await;
    let old = lookup::pepper(&core);
    let hashes: Vec<_> =
        (0..PEOPLE).map(|number| LookupHash::of(&association(number).address, &old).0).collect();
    let left = || {
        let hashes = hashes.iter().map(|hash| files_with(dir.path(), hash).len()).sum::<usize>();
        hashes + files_with(dir.path(), old.as_bytes()).len()
    };
    pepper::rotate(&core, By::Operator).await.expect("done");
    clock.forward(PEPPER_GRACE);
    assert!(!core.store.read().has_removed().expect("readable"));
    assert!(pepper::forget(&core.store, clock.now()).await.expect("written"));
    assert!(core.store.read().has_removed().expect("readable"), "the mark makes a rewrite due");
    assert_ne!(left(), 0, "without a rewrite there is something to find");
    core.store.rewrite(clock.now()).await.expect("rewritten");
    assert_eq!(left(), 0);
    let new = lookup::pepper(&core);
    assert!((0..PEOPLE).all(|number| finds(&core, &looker, &new, number) == Some(true)));
}

#[tokio::test]
async fn a_rewrite_in_the_middle_changes_nothing() {
    let dir = TempDir::new().expect("a directory");
    let clock = TestClock::new();
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::open(dir.path(), 1 << 20, &name, || bindery::ops::genesis(clock.now()));
    let core = core_on(store.expect("a database"), clock.clone()).await;
    let looker = authenticated(&core, user(0)).await;
    publish(&core.store, 0..10).await;
    let mut preparation = Preparation::begin(&core.store, clock.now()).await.expect("begun");
    while preparation.step(&core.store, 3).await.expect("filled") {
        core.store.rewrite(clock.now()).await.expect("rewritten");
    }
    preparation.put_in_use(&core.store, clock.now(), By::Server).await.expect("complete");
    core.store.rewrite(clock.now()).await.expect("rewritten");
    for index in core.store.read().peppers() {
        assert!((0..10).all(|number| finds(&core, &looker, &index.pepper, number) == Some(true)));
    }
}

/// Every bound person is found under every usable pepper, and no other person is.
fn is_whole(core: &Core, looker: &Authenticated, there: impl Fn(usize) -> bool) {
    for index in core.store.read().peppers() {
        let may_be_used = index.state.may_be_used(core.clock.now());
        for number in 0..12 {
            let found = finds(core, looker, &index.pepper, number);
            assert_eq!(found, may_be_used.then(|| there(number)), "{:?}, {number}", index.state);
        }
    }
    assert!((0..12).all(|number| holds(&core.store, number) == there(number)));
}

#[tokio::test]
async fn a_crash_between_any_two_steps_is_made_good() {
    let (storage, clock) = (Frozen::default(), TestClock::new());
    let core = core_on(open(storage.clone()), clock.clone()).await;
    publish(&core.store, 0..9).await;
    let old = lookup::pepper(&core);
    storage.state().acknowledged = 1;
    let mut preparation = Preparation::begin(&core.store, clock.now()).await.expect("begun");
    while preparation.step(&core.store, 2).await.expect("filled") {}
    storage.state().acknowledged = 2;
    preparation.put_in_use(&core.store, clock.now(), By::Server).await.expect("complete");
    storage.state().acknowledged = 3;
    withdraw(&core.store, 0).await;
    storage.state().acknowledged = 4;
    clock.forward(PEPPER_GRACE);
    pepper::forget(&core.store, clock.now()).await.expect("written");
    storage.state().acknowledged = 5;
    clock.back(PEPPER_GRACE);
    drop(core);
    let images = std::mem::take(&mut storage.state().images);
    let mut seen = std::collections::BTreeSet::new();
    // Before the first commit the file holds nothing.
    for image in images.into_iter().filter(|image| image.acknowledged > 0) {
        let core = core_on(open(Frozen::holding(image.bytes)), clock.clone()).await;
        let is_there = |number: usize| number < 9 && (number != 0 || holds(&core.store, 0));
        let looker = authenticated(&core, user(0)).await;
        assert!(image.acknowledged < 4 || !holds(&core.store, 0), "what was withdrawn stays so");
        is_whole(&core, &looker, is_there);
        let before = states(&core.store);
        seen.insert((before.len(), before.contains(&PepperState::Next)));
        let is_old = lookup::pepper(&core) == old;
        assert!(is_old || image.acknowledged >= 2, "not before it was complete");
        assert!(!is_old || image.acknowledged < 3, "what was put in use stays in use");
        assert_eq!(audited(&core.store).len(), usize::from(!is_old), "written down with it");
        // Other people bind before the server resumes the rotation.
        publish(&core.store, [10]).await;
        let kept = pepper::keep(&core).await.expect("kept");
        // Date the first pepper 1970, so that it is always due for rotation.
        let is_unfinished = before.contains(&PepperState::Next);
        assert_eq!(kept.rotated.is_some(), is_old || is_unfinished);
        assert!(!states(&core.store).contains(&PepperState::Next), "what was begun is ended");
        let is_there = |number: usize| number == 10 || is_there(number);
        is_whole(&core, &looker, is_there);
        assert_ne!(lookup::pepper(&core), old);
    }
    let expected = [(1, false), (2, false), (2, true)];
    assert!(seen.into_iter().eq(expected), "every state was seen");
}
