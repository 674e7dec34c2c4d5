//! What nobody planned for: rows that cannot be read, and rows from a time when the clock was wrong.
//! Neither stays, and neither keeps anything else from going.

use std::{path::Path, time::Duration};

use bindery::{
    domain::{
        language::Language,
        outbox::{Change, Notice, OutboxKey, Outgoing, Parcel},
    },
    ops::retention::delete,
    store::DATABASE_FILE,
};
use redb::{Database, Key, TableDefinition, Value, WriteTransaction};

use super::{DAY, ROUND, SECOND};
use crate::{
    model::{address, core_in_memory, user},
    promises::only_files,
    support::{TestClock, files_with},
};

const UNREADABLE: &[u8] = b"\x01unreadable";

/// Adds rows of every kind that has an age, which cannot be read, and entries of indexes that lead nowhere.
fn damage(file: &Path) {
    let database = Database::open(file).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    for name in ["sessions", "invitations"] {
        put::<&str, &[u8]>(&transaction, name, "unreadable", UNREADABLE);
    }
    for name in ["visits", "tokens"] {
        put::<&[u8; 32], &[u8]>(&transaction, name, &[7; 32], UNREADABLE);
    }
    put::<(&str, &str), &[u8]>(&transaction, "consents", ("unreadable", "terms"), UNREADABLE);
    put::<(u8, &str), &[u8]>(&transaction, "outbox", (9, "unreadable"), UNREADABLE);
    put::<(u64, u8, &str), ()>(&transaction, "outbox_due", (1, 9, "unreadable"), ());
    put::<(u8, &str, &str), ()>(&transaction, "invited", (1, "a@b", "unreadable"), ());
    put::<u64, &[u8]>(&transaction, "audit", 7, UNREADABLE);
    transaction.commit().expect("committed");
}

fn put<'a, K: Key + 'static, V: Value + 'static>(
    transaction: &WriteTransaction,
    name: &str,
    key: K::SelfType<'a>,
    value: V::SelfType<'a>,
) {
    let mut table = transaction.open_table(TableDefinition::<K, V>::new(name)).expect("a table");
    table.insert(key, value).expect("inserted");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_goes_and_keeps_nothing_else() {
    let (server, data) = only_files(|_| {}).await;
    let alice = server.user("alice").await;
    server.bind(&alice, "alice@example.org", "secret").await;
    server.request_token(&alice, "somebody@example.org", "secret", 1).await;
    let server = server.restart(|_| damage(&data.join(DATABASE_FILE)));
    server.pass(DAY + ROUND).await;
    server.pass(DAY + ROUND).await;
    assert!(files_with(&data, UNREADABLE).is_empty());
    assert!(files_with(&data, b"unreadable").is_empty(), "neither in an index");
    assert!(files_with(&data, b"somebody@example.org").is_empty(), "others are deleted at their age");
    server.get("/account", &alice).await.ok();
    assert_eq!(server.find(&alice, "alice@example.org").await, Some(alice.id), "and only those");
}

#[tokio::test]
async fn what_was_to_be_sent_by_a_wrong_clock_does_not_stay() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone());
    let (now, key) = (core.clock.now(), core.store.read().session_key().expect("a key"));
    let write = |number: u8, at| {
        let (address, user_id) = (address(number), user(number));
        let key = OutboxKey::of_notice(&address, &key);
        let notice = Notice { address, change: Change::Bound, user_id, language: Language::En };
        let row = Outgoing::new(Parcel::OwnerNotice(notice), at);
        core.store.write(move |tables| tables.put_outgoing(&key, &row))
    };
    write(1, now.after(400 * DAY)).await.expect("written");
    write(2, now).await.expect("written");
    assert_eq!(delete(&core).await.expect("deleted").outbox, 1, "the one that is yet to come");
    // Nobody sends it here, as if its task were held up.
    clock.forward(DAY + Duration::from_secs(3600) - SECOND);
    assert_eq!(delete(&core).await.expect("deleted").outbox, 0);
    clock.forward(SECOND);
    assert_eq!(delete(&core).await.expect("deleted").outbox, 1);
}
