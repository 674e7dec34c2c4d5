//! A restored server: it answers, its tokens work, invitations go on, and what was removed stays removed.

use std::fs;

use bindery::{
    domain::{
        audit::{By, Deed},
        clock::Clock,
        language::Language,
        outbox::{Kind, OutboxKey, Payload},
        secret::SecretHash,
        threepid::Address,
        time::Millis,
    },
    ops::{
        address::{suppression, withdraw::withdraw_by_owner},
        invitation::cancel::{Which, cancel},
        person::erasure,
        restore::Restored,
    },
    store::{DATABASE_FILE, OldDatabase, backup::restore::Restoring},
};
use tempfile::TempDir;

use super::{back_up, backup_in, fill, invitation, open, real_time, restore_into, token};
use crate::support::{
    Server, TestClock,
    core::core_on,
    homeserver::Answer,
    storage::{association, holds},
};

fn invited(number: usize) -> Address {
    Address::email(&format!("invited{number}@example.org")).expect("an address")
}

#[tokio::test]
async fn a_restored_server_answers_lookups_knows_tokens_and_goes_on_with_invitations() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    server.invite(&alice, "bob@example.org", "!room:hs.test").await;
    let dir = TempDir::new().expect("a directory");
    let answer = server.control("/backup", &serde_json::json!({ "file": backup_in(&dir) })).await;
    assert_eq!(answer["contents"]["rows"]["bindings"], 1, "{answer}");
    let (data, restored) = (server.config.data_dir.clone(), dir.path().join("restored"));
    restore_into(&restored, &backup_in(&dir), &[], server.clock.now()).await;
    // The disk is lost.
    let server = server.restart(|_| {
        fs::remove_dir_all(&data).expect("removed");
        fs::rename(&restored, &data).expect("in place");
    });
    assert_eq!(server.find(&bob, "alice@example.org").await.as_deref(), Some(alice.id.as_str()));
    assert_eq!(server.get("/account", &alice).await.status, 200, "her token and her consent are there");
    server.homeserver.answer("/_matrix/federation/v1/3pid/onbind", Answer::Json(200, serde_json::json!({})));
    let sid = server.validate(&bob, "bob@example.org", "secret2").await;
    let body = serde_json::json!({ "sid": sid, "client_secret": "secret2", "mxid": bob.id });
    server.post("/3pid/bind", &bob, &body).await.ok();
    let told = server.homeserver.until_told(1).await;
    assert_eq!(told.len(), 1, "the invitation goes on");
}

#[tokio::test]
async fn calls_about_invitations_are_queued_again_and_lost_mails_are_counted() {
    let (dir, now) = (TempDir::new().expect("a directory"), real_time());
    let store = open(&dir.path().join("data"));
    fill(&store, 0..3, now).await;
    let write = store.write(move |tables| {
        // One is bound, one is not.
        tables.put_invitation(&invitation(1, &association(1).address, now))?;
        tables.put_invitation(&invitation(2, &invited(2), now))?;
        for number in [1, 2] {
            let payload = Payload::InvitationMail(bindery::domain::invitation::Described::default());
            let token = invitation(number, &invited(number), now).token;
            let key = OutboxKey { kind: payload.kind(), token };
            tables.put_outgoing(&key, &bindery::domain::outbox::Outgoing::new(payload, now))?;
        }
        Ok(())
    });
    write.await.expect("written");
    back_up(&store, &backup_in(&dir), now).await;
    let data = dir.path().join("restored");
    let (restored, contents) = restore_into(&data, &backup_in(&dir), &[], now).await;
    assert_eq!((restored.queued, contents.queued_mails), (1, 2));
    let store = open(&data);
    let key = |kind, number| OutboxKey { kind, token: invitation(number, &invited(number), now).token };
    let queued = store.read().outgoing(&key(Kind::OnBind, 1)).expect("readable").expect("queued");
    assert_eq!(queued.payload, Payload::OnBind(association(1).user_id));
    assert!(store.read().outgoing(&key(Kind::OnBind, 2)).expect("readable").is_none());
    assert!(store.read().outgoing(&key(Kind::InvitationMail, 2)).expect("readable").is_none());
}

/// Makes a backup, then removes much in the database: gives the data directory that has both.
async fn removed_since_a_backup(dir: &TempDir, now: Millis) {
    let store = open(&dir.path().join("data"));
    fill(&store, 0..30, now).await;
    let write = store.write(move |tables| {
        tables.put_invitation(&invitation(1, &invited(1), now))?;
        tables.put_invitation(&invitation(2, &invited(2), now))?;
        // Two to one address, of which one will be cancelled.
        tables.put_invitation(&invitation(3, &invited(3), now))?;
        tables.put_invitation(&invitation(4, &invited(3), now))
    });
    write.await.expect("written");
    back_up(&store, &backup_in(dir), now).await;
    let core = core_on(store, TestClock::new()).await;
    erasure::erase_address(&core, association(1).address, By::Owner).await.expect("erased");
    withdraw_by_owner(&core, association(2).address, By::Owner).await.expect("withdrawn");
    erasure::erase_account(&core, association(3).user_id, By::Operator).await.expect("erased");
    suppression::suppress(&core, association(4).address, By::Owner).await.expect("opted out");
    core.store
        .write(|tables| tables.remove_token(SecretHash::of(token(5).as_str())).map(drop))
        .await
        .expect("logged out");
    erasure::erase_address(&core, invited(1), By::Owner).await.expect("erased");
    let cancelled = invitation(3, &invited(3), now).token;
    cancel(&core, Which::Token(cancelled)).await.expect("cancelled");
}

#[tokio::test]
async fn what_was_removed_since_the_backup_stays_removed_if_the_old_directory_still_knows() {
    let (dir, now) = (TempDir::new().expect("a directory"), real_time());
    removed_since_a_backup(&dir, now).await;
    let old =
        OldDatabase::read(&dir.path().join("data").join(DATABASE_FILE)).expect("there").expect("readable");
    assert!(old.is_whole());
    let data = dir.path().join("restored");
    let (restored, _) = restore_into(&data, &backup_in(&dir), &[&old], now).await;
    assert_eq!((restored.unbound, restored.invitations, restored.consents), (3, 2, 1));
    assert_eq!(
        (restored.tokens, restored.opted_out),
        (2, 1),
        "that of the erased account, and the logged out one"
    );
    let store = open(&data);
    for number in 0..30 {
        assert_eq!(holds(&store, number), ![1, 2, 3].contains(&number), "{number}");
        let has_token = store.read().token_owner(&token(number)).expect("readable").is_some();
        assert_eq!(has_token, ![3, 5].contains(&number), "{number}");
    }
    assert!(!store.read().has_accepted(&association(3).user_id, "terms", &["1"]).expect("readable"));
    for (number, is_there) in [(1, false), (2, true), (3, false), (4, true)] {
        let token = invitation(number, &invited(number), now).token;
        assert_eq!(store.read().invitation(&token).expect("readable").is_some(), is_there, "{number}");
    }
    let since = suppression::suppressed_since(&store.read(), &association(4).address).expect("readable");
    assert!(since.is_some(), "nobody writes to them");
    let deeds: Vec<_> = store
        .scan(|scan| scan.audit_after(None, 100))
        .await
        .expect("readable")
        .into_iter()
        .map(|(_, entry)| entry.deed)
        .collect();
    for deed in [Deed::Erasure, Deed::Unbinding, Deed::Suppression, Deed::InvitationCancelled] {
        assert!(deeds.contains(&deed), "the audit goes on: {deeds:?}");
    }
    assert!(store.read().has_removed().expect("readable"), "the next round rewrites the file");
    store.rewrite(now).await.expect("rewritten");
    let bytes = fs::read(data.join(DATABASE_FILE)).expect("readable");
    for number in [1, 2, 3] {
        let address = association(number).address;
        assert!(memchr::memmem::find(&bytes, address.as_str().as_bytes()).is_none(), "{number}");
    }
    drop(store);

    // The erased person publishes the address anew, and a backup of that is restored: it stays.
    let store = open(&data);
    store.write(|tables| tables.put_association(&association(1), Language::En)).await.expect("published");
    let later = dir.path().join("later.backup");
    back_up(&store, &later, now).await;
    drop(store);
    let old = OldDatabase::read(&data.join(DATABASE_FILE)).expect("there").expect("readable");
    let (restored, _) = restore_into(&dir.path().join("later"), &later, &[&old], now).await;
    assert_eq!(restored, Restored { queued: restored.queued, ..Restored::default() });

    // A second restore learns the same from the database that the first one made.
    let old = OldDatabase::read(&data.join(DATABASE_FILE)).expect("there").expect("readable");
    let again = dir.path().join("again");
    let (restored, _) = restore_into(&again, &backup_in(&dir), &[&old], now).await;
    assert_eq!((restored.unbound, restored.opted_out), (3, 1));
}

#[tokio::test]
async fn a_damaged_old_database_tells_what_can_be_read_and_is_never_changed() {
    let (dir, now) = (TempDir::new().expect("a directory"), real_time());
    removed_since_a_backup(&dir, now).await;
    let path = dir.path().join("data").join(DATABASE_FILE);
    let whole = fs::read(&path).expect("readable");
    // An address of a row that stays: its page no longer has its checksum.
    let place =
        memchr::memmem::find_iter(&whole, association(20).address.as_str().as_bytes()).collect::<Vec<_>>();
    let mut damaged = whole.clone();
    for place in place {
        damaged[place] ^= 0x20;
    }
    fs::write(&path, &damaged).expect("written");
    let old = OldDatabase::read(&path).expect("there").expect("readable in part");
    assert!(!old.is_whole() && !old.audit.is_empty());
    let data = dir.path().join("restored");
    let (restored, _) = restore_into(&data, &backup_in(&dir), &[&old], now).await;
    assert_eq!((restored.unbound, restored.opted_out), (3, 1), "the audit and the opt-outs can be read");
    assert_eq!(restored.tokens, 1, "a missing token may be lost and not revoked");
    assert!(fs::read(&path).expect("readable") == damaged);

    for bytes in [Vec::new(), vec![0x5a; 50_000], whole[..whole.len() / 3].to_vec(), whole[4096..].to_vec()] {
        fs::write(&path, &bytes).expect("written");
        let _ = OldDatabase::read(&path).expect("it can be opened");
        assert!(fs::read(&path).expect("readable") == bytes);
    }
}

#[tokio::test]
async fn one_restore_at_a_time_and_no_server_meanwhile() {
    let dir = TempDir::new().expect("a directory");
    let store = open(&dir.path().join("data"));
    fill(&store, 0..3, Millis(1)).await;
    assert!(Restoring::begin(&dir.path().join("data")).is_err(), "a server has it");
    drop(store);
    let restoring = Restoring::begin(&dir.path().join("data")).expect("free");
    assert!(restoring.has_database());
    assert!(Restoring::begin(&dir.path().join("data")).is_err());
}
