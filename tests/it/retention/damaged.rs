//! What nobody planned for: rows that cannot be read, and rows from a time when the clock was wrong.
//! Neither stays, and neither keeps anything else from going.

use std::{collections::BTreeMap, time::Duration};

use bindery::{
    domain::{
        audit::{By, Deed, Entry},
        ids::RoomId,
        invitation::Described,
        language::Language,
        outbox::{BindingChange, Kind, OutboxKey, Outgoing, OwnerMail, Payload},
        secret::SecretHash,
        threepid::Address,
        time::Millis,
        visit::Visit,
    },
    ops::{
        Core, Failure,
        account::{terms, tokens::Authenticated},
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
    let url = core.in_force().terms[0].document.languages["en"].url.clone();
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
    invite(core, account, 2).await;
    let visit = Visit::by_link(address(1), now);
    let audit = Entry { at: now, deed: Deed::Export, by: By::Owner, subject: None };
    let others = core.store.write(move |tables| {
        tables.put_visit(SecretHash::of("visit"), &visit)?;
        tables.put_audit(&audit)
    });
    others.await.expect("written");
    delete(core).await.expect("nothing is old, and all can be read");
}

/// Invites an address; the key of the mail.
async fn invite(core: &Core, account: Authenticated, number: u8) -> OutboxKey {
    let (room_id, described) = (RoomId::parse("!room:hs.test").expect("a room"), Described::default());
    let (address, sender) = (address(number), account.user_id().clone());
    let request = Request { address: address.clone(), room_id, sender, described };
    store::store(core, account, request).await.expect("stored");
    let tokens = core.store.read().invitations_to(&address).expect("readable");
    let [token] = tokens.as_slice() else { panic!("one invitation, not {tokens:?}") };
    OutboxKey { kind: Kind::InvitationMail, token: token.clone() }
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
async fn an_unreadable_row_keeps_no_other_message_from_being_sent() {
    let (clock, memory) = (TestClock::new(), Memory::default());
    let core = core_on(memory.store(&clock), clock.clone()).await;
    fill(&core).await;
    let now = core.clock.now();
    let before = outbox::due(&core, None, 10).await.expect("readable").rows;
    let [outbox::Due { key, row, .. }] = before.as_slice() else { panic!("one mail, not {before:?}") };
    assert!(outbox::content(&core, key, row).expect("readable").is_some());
    let other = invite(&core, authenticated(&core, user(2)).await, 3).await;
    drop(core);
    let database = memory.database();
    let transaction = database.begin_write().expect("a transaction");
    put::<(u8, &str), &[u8]>(&transaction, "outbox", (1, "unreadable"), UNREADABLE);
    put::<(u64, u8, &str), ()>(&transaction, "outbox_due", (now.0 - 1, 1, "unreadable"), ());
    put::<&str, &[u8]>(&transaction, "invitations", key.token.as_str(), UNREADABLE);
    transaction.commit().expect("committed");
    drop(database);
    let core = core_on(memory.store(&clock), clock.clone()).await;
    let due = outbox::due(&core, None, 10).await.expect("the other is sent").rows;
    assert_eq!(due.into_iter().map(|due| due.key).collect::<Vec<_>>(), [other]);
    let error = outbox::content(&core, key, row).err().expect("the invitation cannot be read");
    assert!(
        matches!(error, Failure::Store(error) if error.is_unreadable_row()),
        "the task goes on to the next"
    );
    // Also in batches: the unreadable rows fill the first two.
    let (mut cursor, mut found) = (None, 0);
    for _ in 0..3 {
        let batch = outbox::due(&core, cursor.take(), 1).await.expect("readable");
        (cursor, found) = (batch.next, found + batch.rows.len());
    }
    assert_eq!(found, 1);
}

#[tokio::test]
async fn an_unreadable_row_keeps_no_other_from_being_rescheduled_when_the_clock_is_put_back() {
    // More than one batch.
    const ROWS: u16 = 300;
    let (clock, memory) = (TestClock::new(), Memory::default());
    let core = core_on(memory.store(&clock), clock.clone()).await;
    let (later, key) = (core.clock.now().after(400 * DAY), core.store.read().session_key().expect("a key"));
    let keys: Vec<OutboxKey> = (0..ROWS)
        .map(|number| {
            let address = Address::email(&format!("address{number}@example.org")).expect("an address");
            OutboxKey::of_owner_mail(&address, &key)
        })
        .collect();
    let (rows, row) = (keys.clone(), notice(1, later));
    let written =
        core.store.write(move |tables| rows.iter().try_for_each(|key| tables.put_outgoing(key, &row)));
    written.await.expect("written");
    drop(core);
    let database = memory.database();
    let transaction = database.begin_write().expect("a transaction");
    let damaged = keys.iter().map(|key| key.token.as_str()).min().expect("a row");
    let kind = Kind::OwnerMail.number();
    put::<(u8, &str), &[u8]>(&transaction, "outbox", (kind, damaged), UNREADABLE);
    transaction.commit().expect("committed");
    drop(database);
    let core = core_on(memory.store(&clock), clock.clone()).await;
    outbox::reschedule_far_rows(&core).await.expect("the others are rescheduled");
    let due = outbox::due(&core, None, 1000).await.expect("readable").rows;
    assert_eq!(due.len(), usize::from(ROWS) - 1);
}

/// The notice to the owner of an address, written at this time.
fn notice(number: u8, at: Millis) -> Outgoing {
    let (address, user_id) = (address(number), user(number));
    let notice = OwnerMail { address, change: BindingChange::Bound, user_id, language: Language::En };
    Outgoing::new(Payload::OwnerMail(notice), at)
}

#[tokio::test]
async fn what_was_to_be_sent_by_a_wrong_clock_does_not_stay() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let (now, key) = (core.clock.now(), core.store.read().session_key().expect("a key"));
    let write = |number: u8, at| {
        let (key, row) = (OutboxKey::of_owner_mail(&address(number), &key), notice(number, at));
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
