//! What the service manager hears: ready, alive, slow to start.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use bindery::{
    domain::{
        association::Association, ids::UserId, language::Language, server_name::ServerName,
        threepid::Address, time::Millis,
    },
    ops::genesis,
    store::Store,
};

use super::{LIMIT, Place, Run, answers, free_address};

#[tokio::test]
async fn ready_means_that_requests_are_answered() {
    let (place, address) = (Place::new(), free_address());
    let mut command = place.command();
    command.env("BINDERY_HTTP__LISTEN", format!("['{address}']"));
    let run = Run::start(command);
    place.hear("READY=1");
    assert!(answers(&format!("http://{address}")).await);
    run.stop();
    assert!(place.has_heard("STOPPING=1"));
}

#[test]
fn a_repair_extends_the_start_timeout() {
    let place = Place::new();
    let mut run = Run::start(place.command());
    run.base();
    place.hear("READY=1");
    run.child.kill().expect("killed");
    drop(run);
    let run = Run::start(place.command());
    let heard = place.hear("READY=1");
    assert!(heard.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")), "{heard:?}");
    run.stop();
}

/// A database of which a rewrite takes a while, and which has something to rewrite.
async fn fill(dir: &std::path::Path, people: usize) {
    let name = ServerName::parse("id.test").expect("a name");
    let now = Millis(std::time::UNIX_EPOCH.elapsed().expect("a time").as_millis() as u64);
    let store = Store::open(dir, 64 << 20, &name, || genesis(now)).expect("a database");
    let association = move |number: usize| Association {
        address: Address::email(&format!("somebody{number}@example.org")).expect("an address"),
        user_id: UserId::parse(&format!("@somebody{number}:example.org")).expect("a user ID"),
        ts: now,
    };
    let publish = move |number| (association(number), Language::En);
    store
        .write(move |tables| {
            (0..people)
                .map(publish)
                .try_for_each(|(person, language)| tables.put_association(&person, language))
        })
        .await
        .expect("written");
    // The next one is due tomorrow, so only the operator's command rewrites.
    store.rewrite(now).await.expect("rewritten");
    store.write(move |tables| tables.remove_association(&association(0).address)).await.expect("written");
}

#[tokio::test]
async fn the_watchdog_hears_of_a_rewrite_that_takes_longer_than_its_limit() {
    const WATCHDOG: Duration = Duration::from_millis(500);
    let place = Place::new();
    fill(&place.path().join("data"), 120_000).await;
    let mut command = place.command();
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let mut run = Run::start(command);
    run.base();
    place.hear("WATCHDOG=1");
    let rewrite = thread::spawn({
        let config = place.config.clone();
        move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
            command.args(["retention", "run", "--config"]).arg(config).stdout(Stdio::null());
            assert!(command.status().expect("it runs").success());
        }
    });
    let started = Instant::now();
    let (mut last, mut longest, mut rewriting) = (started, Duration::ZERO, None);
    while !rewrite.is_finished() {
        place.hear("WATCHDOG=1");
        longest = longest.max(last.elapsed());
        last = Instant::now();
        if place.path().join("data/bindery.redb.new").exists() {
            rewriting.get_or_insert((last, last)).1 = last;
        }
        assert!(started.elapsed() < LIMIT, "the rewrite does not end");
    }
    rewrite.join().expect("no panic");
    let took = rewriting.map_or(Duration::ZERO, |(first, last)| last - first);
    assert!(took > WATCHDOG, "the database is too small, its rewrite took {took:?}");
    assert!(longest < WATCHDOG, "the service manager would have killed the server after {longest:?}");
    run.stop();
}
