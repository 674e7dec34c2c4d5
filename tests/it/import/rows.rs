//! Which rows of a Sydent are taken, and which are not and why.

use bindery::{
    domain::{ids::Token, threepid::Address},
    import::Report,
    store::Store,
};
use rusqlite::{ToSql, params, types::Value};

use super::{import, now};
use crate::support::sydent::Sydent;

const DAY: u64 = 86_400_000;
const LOCAL: &str = "local_threepid_associations";
const GLOBAL: &str = "global_threepid_associations";

fn owner(store: &Store, address: &str) -> Option<String> {
    let address = Address::email(address).expect("an address");
    let found = store.read().association(&address).expect("readable");
    found.map(|association| association.user_id.as_str().to_owned())
}

/// The rows of a table that were left, by reason: how many, and the first numbers.
fn left<'a>(report: &'a Report, table: &str) -> Vec<(&'a str, Vec<i64>)> {
    let rows = report.left.iter().filter(|((of, _), _)| *of == table);
    rows.map(|((_, reason), rows)| (*reason, rows.first.clone())).collect()
}

#[tokio::test]
async fn of_two_that_fold_to_one_the_newest_counts() {
    let sydent = Sydent::new(now());
    let day = sydent.now.0 - DAY;
    sydent.publish("Carol@Example.org", "@old:hs.test", day);
    sydent.publish("carol@example.org", "@new:hs.test", day + 1);
    sydent.publish("user@xn--bcher-kva.example", "@ascii:hs.test", day + 2);
    sydent.publish("USER@bücher.example", "@unicode:hs.test", day + 1);
    sydent.global("both@example.org", "@there:other.test", day + 5, "peer.test");
    sydent.publish("both@example.org", "@here:hs.test", day);
    let (store, report) = import(&sydent).await;
    assert_eq!(owner(&store, "carol@example.org").as_deref(), Some("@new:hs.test"));
    assert_eq!(owner(&store, "user@bücher.example").as_deref(), Some("@ascii:hs.test"));
    assert_eq!(owner(&store, "both@example.org").as_deref(), Some("@there:other.test"));
    assert_eq!((report.local, report.replicated, store.read().published().expect("readable")), (2, 1, 3));
    let reason = "there is a newer association of the same address";
    // In the order of the addresses.
    assert_eq!(left(&report, LOCAL), [(reason, vec![5, 1, 4])]);
    // The copies of the same rows in the other table.
    let [(of, rows)] = &left(&report, GLOBAL)[..] else { panic!("one reason") };
    assert_eq!((*of, rows.len()), (reason, 3));
}

#[tokio::test]
async fn what_its_owner_withdrew_stays_withdrawn() {
    let sydent = Sydent::new(now());
    let day = sydent.now.0 - DAY;
    // In another spelling, from a peer, and at the same time.
    for (address, tombstone, ts) in [
        ("Old@Example.org", "old@example.org", day + 1),
        ("peer@example.org", "peer@example.org", day + 1),
        ("tie@example.org", "tie@example.org", day),
        ("again@example.org", "again@example.org", day - 1),
    ] {
        sydent.global(address, "@owner:hs.test", day, "peer.test");
        sydent.local(tombstone, None, ts);
    }
    let (store, report) = import(&sydent).await;
    for (address, expected) in [
        ("old@example.org", None),
        ("peer@example.org", None),
        ("tie@example.org", None),
        ("again@example.org", Some("@owner:hs.test")),
    ] {
        assert_eq!(owner(&store, address).as_deref(), expected, "{address}");
    }
    assert_eq!(left(&report, GLOBAL), [("its owner withdrew the address afterwards", vec![1, 2, 3])]);
}

#[tokio::test]
async fn a_row_that_cannot_be_right_is_left_with_the_reason_and_never_a_crash() {
    let sydent = Sydent::new(now());
    let (day, end) = (i64::try_from(sydent.now.0 - DAY).expect("a time"), 9_000_000_000_000_i64);
    let blob = || Value::Blob(vec![0xff, 0xfe]);
    let text = |text: &str| Value::Text(text.to_owned());
    let bob = "bob@example.org";
    let rows: Vec<(Value, Value, Value, Value, Value, &str)> = vec![
        (text("email"), text(bob), text("@bob:hs.test"), day.into(), end.into(), ""),
        (
            text("email"),
            text("not an address"),
            text("@bob:hs.test"),
            day.into(),
            end.into(),
            "not one that Bindery accepts",
        ),
        (
            text("email"),
            text("a@b@example.org"),
            text("@bob:hs.test"),
            day.into(),
            end.into(),
            "not one that Bindery accepts",
        ),
        (
            text("msisdn"),
            text("+447700900001"),
            text("@bob:hs.test"),
            day.into(),
            end.into(),
            "not one that Bindery accepts",
        ),
        (
            text("fax"),
            text("447700900001"),
            text("@bob:hs.test"),
            day.into(),
            end.into(),
            "the medium is neither",
        ),
        (text("email"), Value::Null, text("@bob:hs.test"), day.into(), end.into(), "a text is missing"),
        (text("email"), blob(), text("@bob:hs.test"), day.into(), end.into(), "something other than text"),
        (blob(), text(bob), text("@bob:hs.test"), day.into(), end.into(), "something other than text"),
        (text("email"), text(bob), text("bob"), day.into(), end.into(), "the Matrix ID is not valid"),
        (
            text("email"),
            text(bob),
            text("@bob\u{202e}:hs.test"),
            day.into(),
            end.into(),
            "the Matrix ID is not valid",
        ),
        (text("email"), text(bob), blob(), day.into(), end.into(), "something other than text"),
        (text("email"), text(bob), Value::Null, day.into(), end.into(), "a text is missing"),
        (text("email"), text(bob), text("@bob:hs.test"), (day / 1000).into(), end.into(), "before 2014"),
        (text("email"), text(bob), text("@bob:hs.test"), (day * 1000).into(), end.into(), "in the future"),
        (text("email"), text(bob), text("@bob:hs.test"), i64::MIN.into(), end.into(), "before 2014"),
        (text("email"), text(bob), text("@bob:hs.test"), i64::MAX.into(), end.into(), "in the future"),
        (text("email"), text(bob), text("@bob:hs.test"), Value::Null, end.into(), "a time is missing"),
        (
            text("email"),
            text(bob),
            text("@bob:hs.test"),
            text("now"),
            end.into(),
            "a time is not a whole number",
        ),
        (
            text("email"),
            text(bob),
            text("@bob:hs.test"),
            1.5.into(),
            end.into(),
            "a time is not a whole number",
        ),
        (text("email"), text(bob), text("@bob:hs.test"), day.into(), (day + 1).into(), "it is not valid now"),
        (text("email"), text(bob), text("@bob:hs.test"), day.into(), Value::Null, "a time is missing"),
    ];
    for (medium, address, mxid, ts, until, _) in &rows {
        let values: [&dyn ToSql; 6] = [medium, address, mxid, ts, &day, until];
        sydent.add(
            "INSERT INTO global_threepid_associations (medium, address, mxid, ts, notBefore, notAfter, originServer) \
             VALUES (?, ?, ?, ?, ?, ?, 'peer.test')",
            &values,
        );
    }
    let invalid_text = "INSERT INTO global_threepid_associations (medium, address, mxid, ts, notBefore, notAfter) \
                        VALUES ('email', CAST(x'ff40622e6f7267' AS TEXT), '@bob:hs.test', ?, 0, ?)";
    sydent.add(invalid_text, params![day, end]);
    let (store, report) = import(&sydent).await;
    assert_eq!(owner(&store, bob).as_deref(), Some("@bob:hs.test"));
    assert_eq!((report.replicated, store.read().published().expect("readable")), (1, 1));
    let left = left(&report, GLOBAL);
    for (number, row) in (1_i64..).zip(&rows).skip(1) {
        let found = left.iter().find(|(_, rows)| rows.contains(&number));
        let (reason, _) = found.unwrap_or_else(|| panic!("row {number} ({}) is not in the report", row.5));
        assert!(reason.contains(row.5), "row {number}: {reason}");
    }
    assert!(
        left.iter().any(|(reason, rows)| reason.contains("not valid UTF-8") && rows == &[22]),
        "{left:?}"
    );
    assert_eq!(left.iter().map(|(_, rows)| rows.len()).sum::<usize>(), rows.len(), "each once");
}

#[tokio::test]
async fn tokens_consents_and_invitations_are_checked_alike() {
    let sydent = Sydent::new(now());
    let seconds = i64::try_from(sydent.now.0 / 1000).expect("a time");
    sydent.register("@alice:hs.test", "good");
    sydent.add("INSERT INTO tokens VALUES ('ownerless', '@nobody:hs.test')", &[]);
    sydent.register("@bob:hs.test", "with a space");
    sydent.register("carol", "of_no_user");
    sydent.add("INSERT INTO tokens VALUES (NULL, '@alice:hs.test')", &[]);
    sydent.accept("nobody", "https://id.test/policy");
    sydent.add("INSERT INTO accepted_terms_urls VALUES ('@alice:hs.test', NULL)", &[]);
    sydent.invite("good@example.org", "Invited");
    let add = |token: &str, address: &str, room: &str, sender: &str, received: i64, sent: Option<i64>| {
        sydent.add(
            "INSERT INTO invite_tokens (medium, address, room_id, sender, token, received_ts, sent_ts) VALUES ('email', ?, ?, ?, ?, ?, ?)",
            params![address, room, sender, token, received, sent],
        );
    };
    let (good, room, alice) = ("good@example.org", "!a:hs.test", "@alice:hs.test");
    add("Sent", good, room, alice, seconds, Some(seconds));
    add("Nowhere", good, "room", alice, seconds, None);
    add("Nobody", good, room, "alice", seconds, None);
    add("Unreachable", "good", room, alice, seconds, None);
    add("Ahead", good, room, alice, seconds * 1000, None);
    add("Old", good, room, alice, seconds - 86_400 * 1000, None);
    add("two words", good, room, alice, seconds, None);
    let (store, report) = import(&sydent).await;
    let token = Token::parse("good").expect("a token");
    let found = store.read().token_owner(&token).expect("readable").expect("it was taken");
    assert_eq!((found.as_str(), report.tokens, report.invitations), ("@alice:hs.test", 1, 1));
    let count = |table| left(&report, table).iter().map(|(_, rows)| rows.len()).sum::<usize>();
    assert_eq!((count("tokens"), count("accepted_terms_urls"), count("invite_tokens")), (4, 2, 7));
    let reasons: Vec<&str> = left(&report, "invite_tokens").iter().map(|(reason, _)| *reason).collect();
    for part in [
        "Sydent has told",
        "the room ID",
        "the Matrix ID",
        "the address",
        "in the future",
        "older than",
        "the token",
    ] {
        assert!(reasons.iter().any(|reason| reason.contains(part)), "{part}: {reasons:?}");
    }
}

#[tokio::test]
async fn a_long_list_is_cut_and_counted() {
    let sydent = Sydent::new(now());
    for number in 0..25 {
        sydent.publish(&format!("{number}@@"), "@bob:hs.test", sydent.now.0);
    }
    let (_, report) = import(&sydent).await;
    let ((_, _), rows) = report.left.iter().next().expect("a reason");
    assert_eq!((rows.count, rows.first.len()), (25, 10));
}
