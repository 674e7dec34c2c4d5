//! What nobody planned for: rows that cannot be read, and rows from a time when the clock was wrong.
//! Neither stays, and neither keeps anything else from going.

use std::{collections::BTreeMap, time::Duration};

use bindery::{
    domain::{
        audit::{By, Deed, Entry},
        ids::RoomId,
        invitation::Described,
        language::Language,
        outbox::{BindingChange, OutboxKey, Outgoing, OwnerMail, Payload},
        secret::SecretHash,
        visit::Visit,
    },
    ops::{
        Core, Failure,
        account::terms,
        address::validate::{self, TokenRequest},
        invitation::store::{self, Request},
        outbox,
        retention::delete,
    },
};
use redb::{
    Key, ReadableDatabase, ReadableTableMetadata, TableDefinition, TableHandle, UntypedTableHandle, Value,
    WriteTransaction,
};

use super::{DAY, SECOND, property::Memory};
use crate::{
    support::TestClock,
    support::core::{address, authenticated, core_in_memory, core_on, secret, user},
};

const UNREADABLE: &[u8] = b"\x01unreadable";

/// Adds a row.
type Damage = fn(&WriteTransaction, &str);

fn put<'a, K: Key + 'static, V: Value + 'static>(
    transaction: &WriteTransaction,
    table: &str,
    key: K::SelfType<'a>,
    value: V::SelfType<'a>,
) {
    let mut table = transaction.open_table(TableDefinition::<K, V>::new(table)).expect("a table");
    table.insert(key, value).expect("inserted");
}

/// For each table whose rows have an age, a row that cannot be read, and what else would lead to it.
const DAMAGES: &[(&str, Damage)] = &[
    ("sessions", |to, table| {
        put::<&str, &[u8]>(to, table, "unreadable", UNREADABLE);
        let sid = b"\x01\x0a\0\0\0\0\0\0\0unreadable";
        put::<&[u8; 32], &[u8]>(to, "session_index", &[7; 32], sid);
    }),
    ("invitations", |to, table| {
        put::<&str, &[u8]>(to, table, "unreadable", UNREADABLE);
        put::<(u8, &str, &str), ()>(to, "invited", (1, "a@b", "unreadable"), ());
        let token = b"\x01\x0a\0\0\0\0\0\0\0unreadable";
        put::<&[u8; 32], &[u8]>(to, "ephemeral_keys", &[7; 32], token);
    }),
    ("visits", |to, table| put::<&[u8; 32], &[u8]>(to, table, &[7; 32], UNREADABLE)),
    ("tokens", |to, table| {
        put::<&[u8; 32], &[u8]>(to, table, &[7; 32], UNREADABLE);
        put::<(u64, &[u8; 32]), ()>(to, "account_tokens", (7, &[7; 32]), ());
    }),
    // Of nobody, and of somebody whom it would keep from everything.
    ("consents", |to, table| put::<(&str, &str), &[u8]>(to, table, ("unreadable", "terms"), UNREADABLE)),
    ("consents", |to, table| {
        put::<(&str, &str), &[u8]>(to, table, (user(1).as_str(), "unreadable"), UNREADABLE);
    }),
    ("outbox", |to, table| {
        put::<(u8, &str), &[u8]>(to, table, (9, "unreadable"), UNREADABLE);
        put::<(u64, u8, &str), ()>(to, "outbox_due", (1, 9, "unreadable"), ());
    }),
    ("audit", |to, table| put::<u64, &[u8]>(to, table, 1000, UNREADABLE)),
];

/// How many rows each table has, but for the facts about the database itself.
fn rows(memory: &Memory) -> BTreeMap<String, u64> {
    let database = memory.copy().database();
    let transaction = database.begin_read().expect("a transaction");
    let tables = transaction.list_tables().expect("tables");
    let len = |table: &UntypedTableHandle| {
        transaction.open_untyped_table(table.clone()).expect("readable").len().expect("a length")
    };
    tables
        .filter(|table| table.name() != "meta")
        .map(|table| (table.name().to_owned(), len(&table)))
        .collect()
}

/// A database with a row of every kind, and none that is old.
async fn fill(core: &Core) {
    let (account, now) = (authenticated(core, user(1)).await, core.clock.now());
    let url = core.terms[0].document.languages["en"].url.clone();
    terms::accept(core, account.clone(), &[url]).await.expect("accepted");
    let request = TokenRequest {
        account: Some(account.clone()),
        address: address(1),
        secret: secret(1),
        send_attempt: 1,
        next_link: None,
        language: Language::En,
    };
    validate::request_token(core, request, || Ok(()), async |_| Ok(())).await.expect("a session");
    let (room_id, described) = (RoomId::parse("!room:hs.test").expect("a room"), Described::default());
    let request = Request { address: address(2), room_id, sender: user(1), described };
    store::store(core, account, request).await.expect("stored");
    let visit = Visit::by_link(address(1), now);
    let audit = Entry { at: now, deed: Deed::Export, by: By::Owner, subject: None };
    let others = core.store.write(move |tables| {
        tables.put_visit(SecretHash::of("visit"), &visit)?;
        tables.put_audit(&audit)
    });
    others.await.expect("written");
    delete(core).await.expect("nothing is old, and all can be read");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_goes_with_all_that_leads_to_it_and_no_other() {
    let (clock, memory) = (TestClock::new(), Memory::default());
    let core = core_on(memory.store(&clock), clock.clone()).await;
    fill(&core).await;
    drop(core);
    let before = rows(&memory);
    for (number, (table, damage)) in DAMAGES.iter().enumerate() {
        assert!(before[*table] > 0, "{table}");
        let memory = memory.copy();
        let database = memory.database();
        let transaction = database.begin_write().expect("a transaction");
        damage(&transaction, table);
        transaction.commit().expect("committed");
        drop(database);
        assert_eq!(rows(&memory)[*table], before[*table] + 1);
        let core = core_on(memory.store(&clock), clock.clone()).await;
        delete(&core).await.expect("the others are still purged");
        assert!(core.store.read().has_removed().expect("readable"), "its bytes go with the next rewrite");
        drop(core);
        assert_eq!(rows(&memory), before, "{number}: {table}");
    }
}

#[tokio::test]
async fn until_it_goes_it_keeps_no_message_from_being_sent() {
    let (clock, memory) = (TestClock::new(), Memory::default());
    let core = core_on(memory.store(&clock), clock.clone()).await;
    fill(&core).await;
    let now = core.clock.now();
    let before = outbox::due(&core, None, 10).await.expect("readable");
    let [outbox::Due { key, row, .. }] = before.as_slice() else { panic!("one mail, not {before:?}") };
    assert!(outbox::content(&core, key, row).expect("readable").is_some());
    drop(core);
    let database = memory.database();
    let transaction = database.begin_write().expect("a transaction");
    put::<(u8, &str), &[u8]>(&transaction, "outbox", (1, "unreadable"), UNREADABLE);
    put::<(u64, u8, &str), ()>(&transaction, "outbox_due", (now.0 - 1, 1, "unreadable"), ());
    put::<&str, &[u8]>(&transaction, "invitations", key.token.as_str(), UNREADABLE);
    transaction.commit().expect("committed");
    drop(database);
    let core = core_on(memory.store(&clock), clock.clone()).await;
    // The invitation says to whom this row goes.
    assert!(outbox::due(&core, None, 10).await.expect("the others are sent").is_empty());
    let error = outbox::content(&core, key, row).err().expect("the invitation cannot be read");
    assert!(
        matches!(error, Failure::Store(error) if error.is_unreadable_row()),
        "the task goes on to the next"
    );
}

#[tokio::test]
async fn what_was_to_be_sent_by_a_wrong_clock_does_not_stay() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let (now, key) = (core.clock.now(), core.store.read().session_key().expect("a key"));
    let write = |number: u8, at| {
        let (address, user_id) = (address(number), user(number));
        let key = OutboxKey::of_owner_mail(&address, &key);
        let notice = OwnerMail { address, change: BindingChange::Bound, user_id, language: Language::En };
        let row = Outgoing::new(Payload::OwnerMail(notice), at);
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
