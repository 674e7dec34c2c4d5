//! The keys of homeservers (Server-Server API, "Publishing Keys"): which documents Bindery trusts, how long it
//! caches them, and when it fetches them again.

use std::time::Duration;

use bindery::domain::clock::Clock;
use serde_json::{Map, Value, json};

use crate::support::{
    homeserver::{Answer, VALID_UNTIL, authorization, key_document, unused_address},
    published::{ADDRESS, KEYS, Published, key},
    v2,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_key_document_that_is_not_to_be_trusted_is_refused() {
    let published = Published::new().await;
    let (content, home) = (published.content(), &published.server.homeserver);
    let now = published.server.clock.now().0;
    let own = key("ed25519:hs", 7);
    let good = home.keys(VALID_UNTIL);
    let signed = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut document = good.clone();
        document.remove("signatures");
        change(&mut document);
        own.sign_json(home.name(), &mut document).expect("a canonical document");
        Answer::Json(200, Value::Object(document))
    };
    let unsigned = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut document = good.clone();
        change(&mut document);
        Answer::Json(200, Value::Object(document))
    };
    let public = |seed: u8| json!({ "key": key("ed25519:x", seed).public().to_base64() });
    let documents = [
        ("another server's", Answer::Json(200, Value::Object(key_document("other.test", &own, VALID_UNTIL)))),
        ("another name", signed(&|document| document["server_name"] = json!("other.test"))),
        ("no name", signed(&|document| drop(document.remove("server_name")))),
        ("not signed", unsigned(&|document| drop(document.remove("signatures")))),
        ("signed by nobody", unsigned(&|document| document["signatures"] = json!({}))),
        ("signatures of another form", unsigned(&|document| document["signatures"] = json!("x"))),
        ("changed", unsigned(&|document| document["valid_until_ts"] = json!(VALID_UNTIL + 1))),
        ("another key added", unsigned(&|document| document["verify_keys"]["ed25519:x"] = public(9))),
        ("another key", unsigned(&|document| document["verify_keys"]["ed25519:hs"] = public(9))),
        ("out of date", signed(&|document| document["valid_until_ts"] = json!(now))),
        ("long out of date", signed(&|document| document["valid_until_ts"] = json!(0))),
        ("no date", signed(&|document| drop(document.remove("valid_until_ts")))),
        ("a date that is none", signed(&|document| document["valid_until_ts"] = json!("tomorrow"))),
        ("a date before all dates", signed(&|document| document["valid_until_ts"] = json!(-1))),
        ("no keys", signed(&|document| document["verify_keys"] = json!({}))),
        ("no member for keys", signed(&|document| drop(document.remove("verify_keys")))),
        (
            "only an old key",
            signed(&|document| {
                document["old_verify_keys"] = document["verify_keys"].clone();
                document["verify_keys"] = json!({});
            }),
        ),
        (
            "too many keys",
            signed(&|document| {
                for number in 0..16 {
                    document["verify_keys"][format!("ed25519:{number}")] = public(9);
                }
            }),
        ),
        ("a short key", signed(&|document| document["verify_keys"]["ed25519:hs"] = json!({ "key": "AAAA" }))),
        ("a key that is none", signed(&|document| document["verify_keys"]["ed25519:hs"] = json!({}))),
    ];
    for (name, document) in documents {
        home.answer(KEYS, document);
        let reply = published.unbind(&published.header(), &content).await;
        assert_eq!((reply.status.as_u16(), reply.errcode().as_str()), (403, "M_FORBIDDEN"), "{name}");
        published.server.clock.forward(60 * SECOND);
    }
    assert!(published.is_published().await);
    // Bindery cached none of them for longer. Keys that did not sign the document do not invalidate one that
    // did.
    let more = signed(&|document| {
        document["verify_keys"]["future:x"] = json!({ "key": "?" });
        document["verify_keys"]["ed25519:x"] = public(9);
    });
    home.answer(KEYS, more);
    let stranger = key("ed25519:x", 9);
    published.refused(&published.header_by(&stranger), &content).await;
    published.accepted(&published.header()).await;
}

#[tokio::test]
async fn a_homeserver_whose_keys_cannot_be_fetched_is_unreachable() {
    let published = Published::new().await;
    let (content, home) = (published.content(), &published.server.homeserver);
    let raw = |body: &str| Answer::Raw(200, "x-raw", "yes".to_owned(), body.as_bytes().to_vec());
    let large = json!({ "padding": "x".repeat(50 * 1024) });
    let documents = [
        Answer::Json(404, Value::Object(home.keys(VALID_UNTIL))),
        Answer::Json(500, Value::Object(home.keys(VALID_UNTIL))),
        Answer::Raw(302, "location", "/elsewhere".to_owned(), Vec::new()),
        Answer::Json(200, large),
        raw(""),
        raw("[]"),
    ];
    home.answer("/elsewhere", Answer::Json(200, Value::Object(home.keys(VALID_UNTIL))));
    for document in documents {
        home.answer(KEYS, document);
        published.unbind(&published.header(), &content).await.refused(502, "M_UNKNOWN");
        let asked = published.keys_fetched();
        published.unbind(&published.header(), &content).await.refused(502, "M_UNKNOWN");
        assert_eq!(published.keys_fetched(), asked, "a failure is remembered for a minute");
        published.server.clock.forward(60 * SECOND);
    }
    assert_eq!(home.times_asked("/elsewhere"), 0);
    assert!(published.is_published().await);

    let gone = format!("{}:18448", unused_address());
    let content = json!({
        "mxid": format!("@alice:{gone}"),
        "threepid": { "medium": "email", "address": ADDRESS },
    });
    let uri = v2("/3pid/unbind");
    let header = authorization(&gone, &key("ed25519:hs", 7), &uri, "destination", "id.test", &content);
    published.unbind(&header, &content).await.refused(502, "M_UNKNOWN");
    assert!(published.is_published().await);
}

#[tokio::test]
async fn a_failed_fetch_does_not_drop_good_keys() {
    let published = Published::new().await;
    published.accepted(&published.header()).await;
    published.server.homeserver.answer(KEYS, Answer::Json(500, json!({})));
    published.server.clock.forward(60 * SECOND);
    let stranger = published.header_by(&key("ed25519:unknown", 9));
    published.unbind(&stranger, &published.content()).await.refused(502, "M_UNKNOWN");
    assert_eq!(published.keys_fetched(), 2);
    published.accepted(&published.header()).await;
    assert_eq!(published.keys_fetched(), 2, "the keys from before are still good");
}

#[tokio::test]
async fn keys_are_remembered_until_they_expire() {
    let published = Published::new().await;
    let home = &published.server.homeserver;
    published.accepted(&published.header()).await;
    published.server.clock.forward(3 * DAY - SECOND);
    published.accepted(&published.header()).await;
    assert_eq!(published.keys_fetched(), 1);
    published.server.clock.forward(SECOND);
    published.refused(&published.header(), &published.content()).await;
    assert_eq!(published.keys_fetched(), 2, "the document is out of date by now");
    let still_good = VALID_UNTIL + DAY.as_millis() as u64;
    home.answer(KEYS, Answer::Json(200, Value::Object(home.keys(still_good))));
    published.server.clock.forward(60 * SECOND);
    published.accepted(&published.header()).await;
    assert_eq!(published.keys_fetched(), 3);
}

#[tokio::test]
async fn keys_are_remembered_for_a_week_at_most() {
    let published = Published::new().await;
    let home = &published.server.homeserver;
    for valid_until in [VALID_UNTIL + 365 * DAY.as_millis() as u64, (1 << 53) - 1] {
        home.answer(KEYS, Answer::Json(200, Value::Object(home.keys(valid_until))));
        let before = published.keys_fetched();
        published.accepted(&published.header()).await;
        published.server.clock.forward(7 * DAY - SECOND);
        published.accepted(&published.header()).await;
        assert_eq!(published.keys_fetched(), before + 1);
        published.server.clock.forward(SECOND);
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_but_at_most_once_a_minute() {
    let published = Published::new().await;
    let (content, home) = (published.content(), &published.server.homeserver);
    let rotated = key("ed25519:new", 9);
    published.accepted(&published.header()).await;
    home.answer(KEYS, Answer::Json(200, Value::Object(key_document(home.name(), &rotated, VALID_UNTIL))));

    published.server.clock.forward(60 * SECOND - Duration::from_millis(1));
    published.refused(&published.header_by(&rotated), &content).await;
    published.accepted(&published.header()).await;
    assert_eq!(published.keys_fetched(), 1, "too soon to ask again");

    published.server.clock.forward(Duration::from_millis(1));
    published.accepted(&published.header()).await;
    assert_eq!(published.keys_fetched(), 1, "the old key is still good");
    published.accepted(&published.header_by(&rotated)).await;
    assert_eq!(published.keys_fetched(), 2);
    published.refused(&published.header(), &content).await;
    for number in 0..5 {
        let unknown = key(&format!("ed25519:{number}"), 9);
        published.refused(&published.header_by(&unknown), &content).await;
    }
    assert_eq!(published.keys_fetched(), 2, "an unknown key makes it fetch once a minute");
    published.server.clock.forward(60 * SECOND);
    published.refused(&published.header(), &content).await;
    published.refused(&published.header(), &content).await;
    published.accepted(&published.header_by(&rotated)).await;
    assert_eq!(published.keys_fetched(), 3);
}

#[tokio::test]
async fn sixteen_keys_are_read_but_none_with_a_long_identifier() {
    let published = Published::new().await;
    let (content, home) = (published.content(), &published.server.homeserver);
    let long = format!("ed25519:{}", "x".repeat(57));
    let ids: Vec<String> = (0..14).map(|number| format!("ed25519:{number}")).collect();
    let longest = long[..64].to_owned();
    let pairs: Vec<_> = ids.iter().chain([&longest, &long]).map(|id| key(id, 9)).collect();
    let mut document = key_document(home.name(), &pairs[0], VALID_UNTIL);
    document.remove("signatures");
    for pair in &pairs {
        document["verify_keys"][pair.id()] = json!({ "key": pair.public().to_base64() });
    }
    for pair in &pairs {
        pair.sign_json(home.name(), &mut document).expect("a canonical document");
    }
    home.answer(KEYS, Answer::Json(200, Value::Object(document)));
    for pair in &pairs[..15] {
        published.accepted(&published.header_by(pair)).await;
    }
    published.refused(&published.header_by(&pairs[15]), &content).await;
    assert_eq!(published.keys_fetched(), 1);
}
