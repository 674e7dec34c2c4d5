//! The rewrite of the database file: removed data is in no file afterwards, nothing else is lost, readers do not
//! wait, and a crash at any step leaves a valid database.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bindery::{
    domain::{
        association::Association, ids::UserId, language::Language, lookup::LookupHash,
        server_name::ServerName, threepid::Address, time::Millis,
    },
    ops::genesis,
    store::{DATABASE_FILE, Store},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::support::files_with;

fn open(dir: &Path) -> Store {
    let name = ServerName::parse("id.test").expect("a name");
    Store::open(dir, 1 << 20, &name, || genesis(Millis(1))).expect("a database")
}

fn association(number: usize) -> Association {
    Association {
        address: Address::email(&format!("somebody{number}@example.org")).expect("an address"),
        user_id: UserId::parse(&format!("@somebody{number}:example.org")).expect("a user ID"),
        ts: Millis(number as u64),
    }
}

async fn publish(store: &Store, numbers: std::ops::Range<usize>) {
    let publish = store.write(move |tables| {
        numbers
            .map(association)
            .try_for_each(|association| tables.put_association(&association, Language::En))
    });
    publish.await.expect("written");
}

async fn withdraw(store: &Store, number: usize) {
    let withdraw = store.write(move |tables| tables.remove_association(&association(number).address));
    withdraw.await.expect("written");
}

fn holds(store: &Store, number: usize) -> bool {
    let snapshot = store.read();
    let hash = LookupHash::of(&association(number).address, snapshot.pepper());
    let mut found = false;
    snapshot.index().lookup(&hash, |_| found = true).expect("readable");
    let row = snapshot.association(&association(number).address).expect("readable");
    assert_eq!(row.is_some(), found, "association {number} is half there");
    found
}

/// The traces that must be in no file after the person has left.
fn traces(number: usize, pepper: &str) -> [Vec<u8>; 3] {
    let Association { address, user_id, .. } = association(number);
    let hash = LookupHash::of(&address, pepper).0.to_vec();
    [address.as_str().as_bytes().to_vec(), user_id.as_str().as_bytes().to_vec(), hash]
}

#[tokio::test]
async fn what_was_removed_is_in_no_file_and_all_else_is_there() {
    const PEOPLE: usize = 2000;
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    publish(&store, 0..PEOPLE).await;
    assert!(!store.read().has_removed().expect("readable"));
    for number in (0..PEOPLE).filter(|number| number % 10 == 7) {
        withdraw(&store, number).await;
    }
    let pepper = store.read().pepper().to_owned();
    assert!(store.read().has_removed().expect("readable"));
    let left = |number| {
        traces(number, &pepper).iter().map(|trace| files_with(dir.path(), trace).len()).sum::<usize>()
    };
    let leavers = || (0..PEOPLE).filter(|number| number % 10 == 7);
    assert_ne!(leavers().map(left).sum::<usize>(), 0, "without a rewrite there is something to find");

    store.rewrite(Millis(77)).await.expect("rewritten");

    assert_eq!(leavers().map(left).sum::<usize>(), 0);
    assert_eq!(store.read().rewritten().expect("readable"), Some(Millis(77)));
    assert!(!store.read().has_removed().expect("readable"));
    let all_there = |store: &Store| (0..PEOPLE).all(|number| holds(store, number) == (number % 10 != 7));
    assert!(all_there(&store));
    publish(&store, PEOPLE..PEOPLE + 1).await;
    drop(store);
    let store = open(dir.path());
    assert!(all_there(&store), "also after a restart");
    assert!(holds(&store, PEOPLE), "with what was written to the new file");
    assert_eq!(store.read().pepper(), pepper);
}

/// Set in the process that uses up its descriptors: how many it has left for the rewrite.
const DESCRIPTORS_LEFT: &str = "TEST_DESCRIPTORS_LEFT";

#[tokio::test]
async fn a_rewrite_with_too_few_descriptors_changes_nothing_and_the_store_goes_on() {
    if let Ok(left) = std::env::var(DESCRIPTORS_LEFT) {
        let is_done = rewrite_with_descriptors(left.parse().expect("a number")).await;
        std::process::exit(if is_done { 0 } else { 3 });
    }
    let name = "rewrite::a_rewrite_with_too_few_descriptors_changes_nothing_and_the_store_goes_on";
    let ends = (0..8).map(|left| {
        let mut child = Command::new(std::env::current_exe().expect("this test"));
        let child = child.args(["--exact", name, "--nocapture"]).env(DESCRIPTORS_LEFT, left.to_string());
        child.output().expect("it runs").status.code()
    });
    let ends: Vec<_> = ends.collect();
    let refused = ends.iter().take_while(|end| **end == Some(3)).count();
    assert!((1..8).contains(&refused) && ends[refused..].iter().all(|end| *end == Some(0)), "{ends:?}");
}

/// Whether the rewrite was done. What follows holds either way.
async fn rewrite_with_descriptors(left: usize) -> bool {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    publish(&store, 0..20).await;
    withdraw(&store, 7).await;
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..before }).expect("lowered");
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    taken.truncate(taken.len() - left);
    let outcome = store.rewrite(Millis(77)).await;
    drop(taken);
    setrlimit(Resource::Nofile, before).expect("raised");
    let rewritten = store.read().rewritten().expect("readable");
    assert_eq!(rewritten, outcome.is_ok().then_some(Millis(77)), "{outcome:?}");
    assert!(!dir.path().join("bindery.redb.new").exists());
    publish(&store, 20..21).await;
    drop(store);
    let store = open(dir.path());
    assert!((0..21).all(|number| holds(&store, number) == (number != 7)));
    store.rewrite(Millis(78)).await.expect("rewritten");
    rewritten.is_some()
}

#[tokio::test]
async fn readers_do_not_wait_and_an_old_snapshot_stays_whole() {
    let dir = TempDir::new().expect("a directory");
    let store = Arc::new(open(dir.path()));
    publish(&store, 0..5000).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (store, done) = (store.clone(), done.clone());
        move || {
            let mut reads = 0;
            while !done.load(Ordering::SeqCst) {
                assert!(holds(&store, reads % 5000));
                reads += 1;
            }
            reads
        }
    });
    let before = store.read().clone();
    for round in 0..5 {
        store.rewrite(Millis(round)).await.expect("rewritten");
    }
    let hash = LookupHash::of(&association(4999).address, before.pepper());
    let mut found = false;
    before.index().lookup(&hash, |_| found = true).expect("the file that was replaced is still readable");
    assert!(found);
    done.store(true, Ordering::SeqCst);
    assert_ne!(reader.join().expect("every read found its row"), 0);
}

#[tokio::test]
async fn writers_queued_behind_a_rewrite_write_to_the_new_file() {
    let dir = TempDir::new().expect("a directory");
    let store = Arc::new(open(dir.path()));
    publish(&store, 0..1000).await;
    let rewrites = (0..3).map(|round| {
        let store = store.clone();
        tokio::spawn(async move { store.rewrite(Millis(round)).await })
    });
    let writes = (1000..1200).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            publish(&store, number..number + 1).await;
            Ok(())
        })
    });
    for each in rewrites.collect::<Vec<_>>().into_iter().chain(writes.collect::<Vec<_>>()) {
        each.await.expect("no panic").expect("done");
    }
    drop(store);
    let store = open(dir.path());
    assert!((0..1200).all(|number| holds(&store, number)));
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_a_good_database() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    publish(&store, 0..500).await;
    withdraw(&store, 7).await;
    drop(store);
    let before = fs::read(dir.path().join(DATABASE_FILE)).expect("the old file");
    let store = open(dir.path());
    store.rewrite(Millis(5)).await.expect("rewritten");
    drop(store);
    let after = fs::read(dir.path().join(DATABASE_FILE)).expect("the new file");
    // Until the new file replaces the old one, it may exist in part.
    let cuts = [0, 1, 4096, after.len() / 2, after.len() - 1, after.len()];
    for cut in cuts.map(Some).into_iter().chain([None]) {
        let dir = TempDir::new().expect("a directory");
        let (file, new) = (dir.path().join(DATABASE_FILE), dir.path().join("bindery.redb.new"));
        fs::write(file, if cut.is_some() { &before } else { &after }).expect("written");
        if let Some(cut) = cut {
            fs::write(&new, &after[..cut]).expect("written");
        }
        let store = open(dir.path());
        assert!((0..500).all(|number| holds(&store, number) == (number != 7)), "{cut:?}");
        assert!(!new.exists(), "what the crash left is gone: {cut:?}");
        assert_eq!(
            store.read().has_removed().expect("readable"),
            cut.is_some(),
            "it is done again if needed"
        );
        store.rewrite(Millis(6)).await.expect("rewritten");
        let pepper = store.read().pepper().to_owned();
        assert!(traces(7, &pepper).iter().all(|trace| files_with(dir.path(), trace).is_empty()));
    }
}

#[tokio::test]
async fn copies_that_migrations_made_go_after_a_week() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let copy = dir.path().join("bindery.redb.schema-1");
    fs::write(&copy, "an old database").expect("written");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after the epoch");
    let at = |days: u64| Millis(now.as_millis() as u64).after(Duration::from_secs(days * 24 * 3600));
    let week = Duration::from_secs(7 * 24 * 3600);
    store.remove_old_copies(week, at(6)).expect("nothing to do");
    assert_eq!(store.old_copies().len(), 1);
    assert!(copy.exists());
    store.remove_old_copies(week, at(8)).expect("removed");
    assert!(store.old_copies().is_empty());
    assert!(!copy.exists());
}

#[tokio::test]
async fn a_copy_from_a_wrong_clock_goes_after_a_week_too() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let copy = dir.path().join("bindery.redb.schema-3");
    fs::write(&copy, "an old database").expect("written");
    let (now, day) = (Millis(1_800_000_000_000), Duration::from_secs(24 * 3600));
    let in_five_years = SystemTime::UNIX_EPOCH + Duration::from_millis(now.0) + 5 * 365 * day;
    File::open(&copy).expect("a file").set_modified(in_five_years).expect("set");
    store.remove_old_copies(7 * day, now).expect("dated");
    assert_eq!(store.old_copies(), [now]);
    store.remove_old_copies(7 * day, now.after(7 * day)).expect("removed");
    assert!(!copy.exists());
}

#[tokio::test]
async fn an_address_that_may_be_written_to_again_is_something_removed() {
    let dir = TempDir::new().expect("a directory");
    let store = open(dir.path());
    let lift = async || store.write(|tables| tables.lift_suppression(&[9; 32])).await.expect("written");
    assert!(!lift().await);
    assert_eq!(store.read().removed_since().expect("readable"), None, "nothing was there");
    store.write(|tables| tables.put_round(Millis(7))).await.expect("written");
    store.write(|tables| tables.suppress(&[9; 32], Millis(8))).await.expect("written");
    assert!(lift().await);
    assert_eq!(store.read().removed_since().expect("readable"), Some(Millis(7)), "since the round before");
    store.rewrite(Millis(9)).await.expect("rewritten");
    assert!(files_with(dir.path(), &[9; 32]).is_empty());
}

#[tokio::test]
async fn what_was_never_committed_is_a_reason_to_rewrite() {
    let (dir, other) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    let store = open(dir.path());
    publish(&store, 0..3).await;
    let note =
        async |store: &Store| store.write(|tables| tables.put_round(Millis(1))).await.expect("written");
    note(&store).await;
    assert!(!store.read().has_removed().expect("readable"));
    // The file as a killed process leaves it.
    fs::copy(dir.path().join(DATABASE_FILE), other.path().join(DATABASE_FILE)).expect("copied");
    let cut_off = open(other.path());
    note(&cut_off).await;
    assert!(
        cut_off.read().has_removed().expect("readable"),
        "the file may hold bytes of the interrupted write"
    );
    cut_off.rewrite(Millis(2)).await.expect("rewritten");
    note(&cut_off).await;
    assert!(!cut_off.read().has_removed().expect("readable"));

    let undone = store.write(|tables| {
        tables.put_association(&association(7), Language::En)?;
        panic!("undone");
        #[expect(unreachable_code)]
        Ok(())
    });
    assert!(undone.await.is_err());
    drop(store);
    let closed = open(dir.path());
    assert!(closed.read().has_removed().expect("readable"), "the file may hold bytes of the undone batch");
    closed.rewrite(Millis(2)).await.expect("rewritten");
    drop(closed);
    let closed = open(dir.path());
    note(&closed).await;
    assert!(!closed.read().has_removed().expect("readable"), "a cleanly closed file has no such bytes");
}
