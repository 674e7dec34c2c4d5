//! Backups: what is in one, under load, on a full disk, killed half way, and what a restore brings back.

mod commands;
mod directory;
mod interrupted;
mod restore;
mod verify;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use bindery::{
    domain::{
        ids::{RoomId, Token, UserId},
        invitation::{Described, Invitation, Invited},
        language::Language,
        outbox::{OutboxKey, Outgoing, Payload},
        secret::Key32,
        server_name::ServerName,
        signing::KeyPair,
        threepid::Address,
        time::Millis,
    },
    ops::{
        backup::make,
        genesis,
        restore::{Restored, finish},
    },
    store::{
        OldDatabase, Store,
        backup::{Contents, Progress, restore::Restoring, verify},
    },
};
use tempfile::TempDir;

use crate::support::{
    TestClock,
    core::core_with,
    storage::{association, holds},
};

fn name() -> ServerName {
    ServerName::parse("id.test").expect("a name")
}

fn open(dir: &Path) -> Store {
    Store::open(dir, 8 << 20, &name(), || genesis(Millis(1))).expect("a database")
}

/// The time of the machine, by which the commands go.
fn real_time() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    Millis(since.as_millis() as u64)
}

fn token(number: usize) -> Token {
    Token::parse(&format!("token{number}")).expect("a token")
}

fn invitation(number: usize, address: &Address, created: Millis) -> Invitation {
    let sender = UserId::parse("@inviter:example.org").expect("a user ID");
    Invitation {
        token: Token::parse(&format!("invitation{number}")).expect("a token"),
        invited: Invited::Address(address.clone()),
        room_id: RoomId::parse("!room:example.org").expect("a room ID"),
        sender,
        ephemeral_key: KeyPair::new("ed25519:0", &Key32::new([number as u8; 32])).public(),
        created,
    }
}

/// People with these numbers: each has an address, a token and a consent.
async fn fill(store: &Store, numbers: std::ops::Range<usize>, now: Millis) {
    for start in numbers.clone().step_by(1000) {
        let numbers = start..numbers.end.min(start + 1000);
        let fill = store.write(move |tables| {
            for number in numbers {
                let person = association(number);
                tables.put_association(&person, Language::En)?;
                tables.put_token(&token(number), &person.user_id, now)?;
                tables.put_consent(&person.user_id, "terms", "1", now)?;
            }
            Ok(())
        });
        fill.await.expect("written");
    }
}

async fn back_up(store: &Store, path: &Path, now: Millis) -> Contents {
    store.back_up(path.to_owned(), now, Arc::new(Progress::default())).await.expect("a backup")
}

/// Restores a backup into a data directory. `old` are the databases that know of removals.
async fn restore_into(dir: &Path, backup: &Path, old: &[&OldDatabase], now: Millis) -> (Restored, Contents) {
    let restoring = Restoring::begin(dir).expect("free");
    let contents = restoring.copy(backup).expect("copied");
    let store = restoring.open(&name(), now).expect("opened");
    let restored = finish(&store, old, &bindery::config::Config::default(), now).await.expect("finished");
    drop(store);
    restoring.put_in_place(now).expect("in place");
    (restored, contents)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_acknowledged_before_the_backup_is_in_it_under_write_load() {
    let (dir, clock) = (TempDir::new().expect("a directory"), TestClock::new());
    let store = open(&dir.path().join("data"));
    fill(&store, 0..2000, Millis(1)).await;
    let path = dir.path().join("one.backup");
    let core = core_with(store, clock, |config| config.data_dir = dir.path().join("data")).await;
    let core = Arc::new(core);
    let (acknowledged, is_over) = (Arc::new(AtomicUsize::new(2000)), Arc::new(AtomicBool::new(false)));
    let load = tokio::spawn({
        let (core, acknowledged, is_over) = (core.clone(), acknowledged.clone(), is_over.clone());
        async move {
            while !is_over.load(Ordering::SeqCst) {
                let number = acknowledged.load(Ordering::SeqCst);
                let write = core.store.write(move |tables| {
                    tables.put_association(&association(number), Language::En)?;
                    // Each publishes an address and withdraws an older one.
                    tables.remove_association(&association(number - 1000).address)
                });
                write.await.expect("written");
                acknowledged.store(number + 1, Ordering::SeqCst);
            }
        }
    });
    while acknowledged.load(Ordering::SeqCst) < 2050 {
        tokio::task::yield_now().await;
    }
    let before = acknowledged.load(Ordering::SeqCst);
    let made = make(&core, Some(path.clone())).await.expect("a backup");
    let after = acknowledged.load(Ordering::SeqCst);
    is_over.store(true, Ordering::SeqCst);
    load.await.expect("no panic");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(made.contents, verify(&path).expect("whole"));
    assert_eq!(core.store.read().backed_up().expect("readable"), Some(made.contents.made));

    let restored = dir.path().join("restored");
    restore_into(&restored, &path, &[], real_time()).await;
    let restored = open(&restored);
    for number in 0..before {
        match holds(&restored, number) {
            true => {
                assert!(number < 1000 || number + 1000 >= before, "{number} was withdrawn before it began")
            }
            // Withdrawn while the backup was made, at most one write after the last count.
            false => {
                assert!((1000..=after - 1000).contains(&number), "{number} was published before it began")
            }
        }
    }
}

#[tokio::test]
async fn only_live_rows_that_a_restore_needs_are_in_it() {
    let dir = TempDir::new().expect("a directory");
    let (store, path) = (open(&dir.path().join("data")), dir.path().join("one.backup"));
    fill(&store, 0..50, Millis(1)).await;
    let gone = association(7).address;
    let address = Address::email("invited@example.org").expect("an address");
    let (removed, invited) = (gone.clone(), invitation(1, &address, Millis(1)));
    let secret = "the room that only the outbox names";
    let write = store.write(move |tables| {
        tables.remove_association(&removed)?;
        tables.put_invitation(&invited)?;
        tables.suppress(&[9; 32], Millis(1))?;
        let described = Described { room_name: Some(secret.to_owned()), ..Described::default() };
        let payload = Payload::InvitationMail(described);
        let key = OutboxKey { kind: payload.kind(), token: invited.token.clone() };
        tables.put_outgoing(&key, &Outgoing::new(payload, Millis(1)))?;
        tables.put_budget(77, bindery::domain::bucket::Bucket::full_at(5))
    });
    write.await.expect("written");
    let contents = back_up(&store, &path, real_time()).await;
    let rows = contents.rows.expect("of this schema");
    assert_eq!((rows.bindings, rows.invitations, rows.tokens, rows.consents), (49, 1, 50, 50));
    assert_eq!((rows.suppressed, contents.queued_mails), (1, 1));
    assert_eq!((contents.server_name.as_str(), contents.schema), ("id.test", bindery::store::SCHEMA));
    let bytes = fs::read(&path).expect("readable");
    let holds = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
    assert!(holds("invited@example.org") && holds(association(8).address.as_str()));
    assert!(!holds(gone.as_str()), "no removed address is in it, not even as bytes");
    assert!(!holds(secret), "nothing of the outbox is in it");
}

/// The files of a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn backup_in(dir: &TempDir) -> PathBuf {
    dir.path().join("one.backup")
}
