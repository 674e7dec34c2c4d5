//! The outbox: requests to homeservers when an invited address is published, and mails. Bindery retries both until one
//! try succeeds, and then never sends them again.

mod mails;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Server, User,
    homeserver::{Answer, Told},
    openapi::check_on_bind,
    v2,
};

const ON_BIND: &str = "/_matrix/federation/v1/3pid/onbind";
const ADDRESS: &str = "carol@example.org";
const ROOM: &str = "!room:hs.test";
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn counted(kind: &str, outcome: &str, count: u32) -> String {
    format!("bindery_outbox_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} {count}")
}

fn rooms(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.body["invites"][0]["room_id"].as_str().expect("a room")).collect()
}

/// A server whose homeserver gives this answer, with alice, and carol, whom alice has invited.
async fn invited(answer: Answer) -> (Server, User, User) {
    let server = Server::start().await;
    server.homeserver.answer(ON_BIND, answer);
    let (alice, carol) = (server.user("alice").await, server.user("carol").await);
    server.invite(&alice, ADDRESS, ROOM).await;
    server.mail_to(ADDRESS, 0).await;
    (server, alice, carol)
}

fn taken() -> Answer {
    Answer::Json(200, json!({}))
}

/// Sends a second invitation. When it arrives, all earlier rows that were due have been sent.
async fn only_these_and_another(server: &Server, alice: &User, carol: &User, before: usize) {
    server.homeserver.answer(ON_BIND, taken());
    server.invite(alice, "later@example.org", "!later:hs.test").await;
    server.bind(carol, "later@example.org", "later").await;
    let told = server.homeserver.until_told(before + 1).await;
    assert_eq!(rooms(&told[before..]), ["!later:hs.test"]);
}

#[tokio::test]
async fn a_homeserver_hears_of_an_invitation_once() {
    let (server, alice, carol) = invited(taken()).await;
    let second = server.invite(&alice, ADDRESS, "!second:hs.test").await;
    server.bind(&carol, ADDRESS, "secret").await;
    let told = server.homeserver.until_told(2).await;
    let keys = server.request(Method::GET, &v2("/pubkey/ed25519:0"), None, None).await.ok();
    let keys = json!({ "id.test": { "ed25519:0": keys["public_key"] } });
    let keys = serde_json::from_value(keys).expect("keys");
    for told in &told {
        assert_eq!((told.method.as_str(), told.path.as_str()), ("PUT", ON_BIND));
        check_on_bind(&told.body);
        let invites = told.body["invites"].as_array().expect("invitations");
        assert_eq!(
            (invites.len(), &told.body["address"], &told.body["mxid"]),
            (1, &json!(ADDRESS), &json!(carol.id))
        );
        assert_eq!(invites[0]["sender"], json!(alice.id));
        let signed = &invites[0]["signed"];
        assert_eq!(signed["mxid"], json!(carol.id));
        let object = serde_json::from_value(signed.clone()).expect("an object");
        ruma_signatures::verify_json(&keys, &object).expect("a valid signature");
    }
    let mut both = rooms(&told);
    both.sort_unstable();
    assert_eq!(both, [ROOM, "!second:hs.test"]);
    server.until_counted(&counted("onbind", "delivered", 2)).await;
    let path = format!("/_bindery/v1/invitations/{}", second["token"].as_str().expect("a token"));
    let gone = server.request(Method::DELETE, &path, Some(&alice.token), None).await;
    gone.refused(404, "M_NOT_FOUND");
    // Not sent again by a second bind, after a restart, or later.
    server.bind(&carol, ADDRESS, "again").await;
    let server = server.restart(|_| {});
    server.clock.forward(2 * HOUR);
    only_these_and_another(&server, &alice, &carol, 2).await;
}

#[tokio::test]
async fn nobody_is_told_without_an_invitation() {
    let server = Server::start().await;
    let (alice, carol) = (server.user("alice").await, server.user("carol").await);
    server.bind(&carol, ADDRESS, "secret").await;
    only_these_and_another(&server, &alice, &carol, 0).await;
}

#[tokio::test]
async fn a_homeserver_that_knows_no_put_gets_a_post() {
    for answer in [
        Answer::Json(405, json!({ "errcode": "M_UNRECOGNIZED", "error": "?" })),
        Answer::Raw(405, "x-a", "b".to_owned(), b"<html>".to_vec()),
        Answer::Json(404, json!({ "errcode": "M_UNRECOGNIZED", "error": "?" })),
    ] {
        let (server, _, carol) = invited(taken()).await;
        server.homeserver.answer(&format!("PUT {ON_BIND}"), answer);
        server.bind(&carol, ADDRESS, "secret").await;
        let told = server.homeserver.until_told(2).await;
        assert_eq!(told.iter().map(|told| told.method.as_str()).collect::<Vec<_>>(), ["PUT", "POST"]);
        assert_eq!(told[0].body, told[1].body);
        server.until_counted(&counted("onbind", "delivered", 1)).await;
    }
}

#[tokio::test]
async fn what_fails_for_now_is_tried_again_also_after_a_restart() {
    for answer in [
        Answer::Json(500, json!({})),
        Answer::Json(502, json!({})),
        Answer::Json(429, json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "slowly" })),
        Answer::Raw(302, "location", "https://127.0.0.1/".to_owned(), Vec::new()),
        Answer::Huge(1 << 20),
    ] {
        let (server, alice, carol) = invited(answer).await;
        server.bind(&carol, ADDRESS, "secret").await;
        server.homeserver.until_told(1).await;
        server.until_counted(&counted("onbind", "waiting", 1)).await;
        let server = server.restart(|_| {});
        // Not before its time.
        server.clock.forward(Duration::from_millis(4999));
        server.homeserver.answer(ON_BIND, taken());
        server.clock.forward(Duration::from_millis(1));
        let told = server.homeserver.until_told(2).await;
        assert_eq!(told[0], told[1]);
        server.until_counted(&counted("onbind", "delivered", 1)).await;
        only_these_and_another(&server, &alice, &carol, 2).await;
    }
}

#[tokio::test]
async fn after_a_week_it_is_given_up() {
    let (server, alice, carol) = invited(Answer::Json(503, json!({}))).await;
    server.bind(&carol, ADDRESS, "secret").await;
    server.homeserver.until_told(1).await;
    server.until_counted(&counted("onbind", "waiting", 1)).await;
    server.clock.forward(7 * DAY - HOUR);
    server.homeserver.until_told(2).await;
    server.until_counted(&counted("onbind", "waiting", 2)).await;
    server.clock.forward(HOUR);
    server.homeserver.until_told(3).await;
    server.until_counted(&counted("onbind", "given_up", 1)).await;
    server.clock.forward(DAY);
    only_these_and_another(&server, &alice, &carol, 3).await;
    // A second bind queues it again.
    server.bind(&carol, ADDRESS, "again").await;
    assert_eq!(rooms(&server.homeserver.until_told(5).await)[4], ROOM);
}

#[tokio::test]
async fn publishing_again_does_not_begin_the_week_again() {
    let (server, alice, carol) = invited(Answer::Json(503, json!({}))).await;
    server.bind(&carol, ADDRESS, "secret").await;
    server.until_counted(&counted("onbind", "waiting", 1)).await;
    server.clock.forward(7 * DAY - HOUR);
    server.until_counted(&counted("onbind", "waiting", 2)).await;
    server.bind(&carol, ADDRESS, "again").await;
    server.clock.forward(HOUR);
    server.until_counted(&counted("onbind", "given_up", 1)).await;
    server.clock.forward(DAY);
    only_these_and_another(&server, &alice, &carol, 3).await;
}

#[tokio::test]
async fn a_homeserver_that_says_no_is_not_asked_again() {
    for (status, errcode) in [(400, "M_BAD_JSON"), (403, "M_FORBIDDEN"), (404, "M_NOT_FOUND")] {
        let (server, alice, carol) =
            invited(Answer::Json(status, json!({ "errcode": errcode, "error": "no" }))).await;
        server.bind(&carol, ADDRESS, "secret").await;
        server.until_counted(&counted("onbind", "refused", 1)).await;
        server.clock.forward(DAY);
        only_these_and_another(&server, &alice, &carol, 1).await;
    }
}

#[tokio::test]
async fn one_that_is_gone_holds_up_nobody_else() {
    let (mut server, alice, carol) = invited(Answer::Silence).await;
    server.leaves_jobs();
    server.invite(&alice, ADDRESS, "!second:hs.test").await;
    server.bind(&carol, ADDRESS, "secret").await;
    server.homeserver.until_told(1).await;
    // The request still waits for that answer, but mails are sent meanwhile.
    server.invite(&alice, "dave@example.org", ROOM).await;
    server.mail_to("dave@example.org", 0).await;
    assert_eq!(server.homeserver.told().len(), 1);
}

#[tokio::test]
async fn one_that_fails_rests_and_what_was_not_tried_stays_as_it_is() {
    let (server, alice, carol) = invited(Answer::Json(503, json!({}))).await;
    for room in ["!second:hs.test", "!third:hs.test"] {
        server.invite(&alice, ADDRESS, room).await;
    }
    server.bind(&carol, ADDRESS, "secret").await;
    server.until_counted(&counted("onbind", "waiting", 1)).await;
    // When the mail arrives, the task has read the outbox again.
    for address in ["dave@example.org", "erin@example.org"] {
        server.invite(&alice, address, ROOM).await;
        server.mail_to(address, 0).await;
    }
    assert_eq!(server.homeserver.told().len(), 1);
    server.clock.forward(Duration::from_secs(5));
    server.until_counted(&counted("onbind", "waiting", 2)).await;
    server.homeserver.answer(ON_BIND, taken());
    server.clock.forward(Duration::from_millis(9999));
    server.invite(&alice, "frank@example.org", ROOM).await;
    server.mail_to("frank@example.org", 0).await;
    assert_eq!(server.homeserver.told().len(), 2, "the second backoff is longer");
    server.clock.forward(Duration::from_millis(1));
    server.until_counted(&counted("onbind", "delivered", 3)).await;
}

#[tokio::test]
async fn a_homeserver_that_does_not_answer_keeps_no_server_from_stopping() {
    // If shutdown waited for the answer, it would take at least the timeout of a mail.
    let (server, _, carol) = invited(Answer::Silence).await;
    server.bind(&carol, ADDRESS, "secret").await;
    server.homeserver.until_told(1).await;
    server.homeserver.answer(ON_BIND, taken());
    let begun = std::time::Instant::now();
    let server = server.restart(|_| {});
    assert!(begun.elapsed() < Duration::from_secs(20));
    // The mail was neither delivered nor counted as a failure.
    let told = server.homeserver.until_told(2).await;
    assert_eq!(told[0], told[1]);
    server.until_counted(&counted("onbind", "delivered", 1)).await;
}

#[tokio::test]
async fn an_address_that_is_taken_back_in_time_is_told_to_nobody() {
    let (server, alice, carol) = invited(Answer::Json(503, json!({}))).await;
    let bound = server.bind(&carol, ADDRESS, "secret").await;
    assert_eq!(bound["address"], ADDRESS);
    server.until_counted(&counted("onbind", "waiting", 1)).await;
    let content = json!({ "mxid": carol.id, "threepid": { "medium": "email", "address": ADDRESS } });
    let header = server.homeserver.sign_request(&v2("/3pid/unbind"), "destination", "id.test", &content);
    let unbind = server
        .build(Method::POST, &v2("/3pid/unbind"))
        .header("authorization", header)
        .header("content-type", "application/json")
        .body(content.to_string());
    let before = server.homeserver.told().len();
    server.send(unbind).await.ok();
    server.clock.forward(DAY);
    only_these_and_another(&server, &alice, &carol, before).await;
}

#[tokio::test]
async fn the_invitations_of_two_people_never_meet() {
    let (server, alice, carol) = invited(Answer::Json(503, json!({}))).await;
    let dave = server.user("dave").await;
    server.invite(&alice, "dave@example.org", "!daves:hs.test").await;
    server.bind(&carol, ADDRESS, "secret").await;
    server.until_counted(&counted("onbind", "waiting", 1)).await;
    server.bind(&dave, "dave@example.org", "daves").await;
    server.clock.forward(Duration::from_secs(5));
    server.until_counted(&counted("onbind", "waiting", 2)).await;
    // dave binds carol's address before her homeserver has received the request.
    server.bind(&dave, ADDRESS, "takeover").await;
    server.homeserver.answer(ON_BIND, taken());
    let before = server.homeserver.told().len();
    server.forward_until_told(HOUR, before + 2).await;
    server.until_counted(&counted("onbind", "delivered", 2)).await;
    let told = server.homeserver.told();
    for Told { body, .. } in &told {
        let person = body["mxid"].as_str().expect("a Matrix ID");
        let address = body["address"].as_str().expect("an address");
        let invites = body["invites"].as_array().expect("invitations");
        assert_eq!(invites.len(), 1);
        let belongs = |invite: &Value| {
            invite["mxid"] == person && invite["signed"]["mxid"] == person && invite["address"] == address
        };
        assert!(invites.iter().all(belongs), "{body}");
        assert_eq!(address == "dave@example.org", invites[0]["room_id"] == "!daves:hs.test", "{body}");
        assert!(person == dave.id || address == ADDRESS, "{body}");
    }
    let last: Vec<_> = told[before..].iter().map(|told| told.body["mxid"].clone()).collect();
    assert!(last.iter().all(|mxid| *mxid == json!(dave.id)), "{last:?}");
}
