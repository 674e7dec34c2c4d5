//! Invitations: stored, mailed, signed for the recipient, cancelled, expired.

use std::time::Duration;

use bindery::{config::Config, domain::bucket::Rate};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::{Reply, Server, User, at_least_one, homeserver::Homeserver, invited::sign_url, v2};

const ADDRESS: &str = "carol@example.org";
const ROOM: &str = "!room:hs.test";
const CAROL: &str = "@carol:elsewhere.test";

fn invitation(sender: &User) -> Value {
    json!({ "medium": "email", "address": ADDRESS, "room_id": ROOM, "sender": sender.id })
}

fn with(mut body: Value, extra: Value) -> Value {
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

async fn store(server: &Server, sender: &User, extra: Value) -> Reply {
    server.post("/store-invite", sender, &with(invitation(sender), extra)).await
}

/// The path in mails, which needs no token.
const SIGN: &str = "/_matrix/identity/api/v1/sign-ed25519";

async fn sign(server: &Server, url: &str, body: Option<&Value>) -> Reply {
    server.request(Method::POST, url, None, body).await
}

fn ephemeral_key(stored: &Value) -> &str {
    stored["public_keys"][1]["public_key"].as_str().expect("a key")
}

/// Whether Bindery calls a key valid, at both paths and in both alphabets, because rooms may use any of them.
async fn is_valid(server: &Server, kind: &str, key: &str) -> bool {
    let url_safe = key.replace('+', "-").replace('/', "_");
    let standard = key.replace('+', "%2B").replace('/', "%2F");
    let mut answers = Vec::new();
    for base in ["/_matrix/identity/v2/pubkey", "/_matrix/identity/api/v1/pubkey"] {
        for spelling in [&url_safe, &standard, &format!("{standard}%3D")] {
            let path = format!("{base}{kind}/isvalid?public_key={spelling}");
            answers.push(server.request(Method::GET, &path, None, None).await.ok()["valid"] == true);
        }
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");
    answers[0]
}

/// Panics unless `signed` carries a signature of `id.test` that ruma verifies with `key`.
fn verify(signed: &Value, key: &str) {
    let keys = serde_json::from_value(json!({ "id.test": { "ed25519:0": key } })).expect("keys");
    let object = serde_json::from_value(signed.clone()).expect("an object");
    ruma_signatures::verify_json(&keys, &object).expect("a valid signature");
}

#[tokio::test]
async fn an_invitation_is_stored_mailed_and_signed_for() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let names = json!({ "room_name": "Tea & cake", "sender_display_name": "Alice \"A\"" });
    let stored = store(&server, &alice, names).await.ok();
    assert_eq!(stored["display_name"], "c...@e...");
    let url = |index: usize| stored["public_keys"][index]["key_validity_url"].as_str().expect("a URL");
    assert_eq!(url(0), "https://id.test/_matrix/identity/v2/pubkey/isvalid");
    assert_eq!(url(1), "https://id.test/_matrix/identity/v2/pubkey/ephemeral/isvalid");
    let ours = stored["public_keys"][0]["public_key"].as_str().expect("a key");
    assert!(
        is_valid(&server, "", ours).await && is_valid(&server, "/ephemeral", ephemeral_key(&stored)).await
    );
    assert!(
        !is_valid(&server, "", ephemeral_key(&stored)).await && !is_valid(&server, "/ephemeral", ours).await
    );

    let mail = server.mail_to(ADDRESS, 0).await;
    assert!(mail.subject.contains(server.homeserver.name()), "{}", mail.subject);
    assert!(mail.names(&alice.id), "{}", mail.text);
    for part in ["\u{2068}Tea & cake\u{2069}", "\u{2068}Alice \"A\"\u{2069}", "30\u{a0}days"] {
        assert!(mail.text.contains(part), "{part} is not in {}", mail.text);
    }
    assert!(mail.html.as_deref().expect("HTML").contains("<bdi>Tea &amp; cake</bdi>"));
    let link = mail.text.split_whitespace().find(|word| word.contains("/#/room/")).expect("a link");
    let room = "https://app.element.io/#/room/%21room%3Ahs.test?email=carol%40example.org&signurl=";
    assert!(link.starts_with(room), "{link}");

    // matrix-js-sdk adds the Matrix ID to the query and sends nothing else, without a token.
    let url = format!("{}&mxid={}", sign_url(&mail), CAROL.replace('@', "%40"));
    let signed = sign(&server, &url, None).await.ok();
    assert_eq!((&signed["mxid"], &signed["sender"]), (&json!(CAROL), &json!(alice.id)));
    assert_eq!(signed["token"], stored["token"]);
    verify(&signed, ephemeral_key(&stored));
}

#[tokio::test]
async fn signing_takes_json_and_forms_and_only_the_invitations_key() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let stored = store(&server, &alice, json!({})).await.ok();
    let other = store(&server, &alice, json!({ "address": "dave@example.org" })).await.ok();
    let url = sign_url(&server.mail_to(ADDRESS, 0).await);
    let query: Map<String, Value> =
        serde_urlencoded::from_str(url.split_once('?').expect("a query").1).expect("a query");
    let (token, key) = (query["token"].clone(), query["private_key"].as_str().expect("a key").to_owned());
    let good = json!({ "mxid": CAROL, "token": token, "private_key": key });
    sign(&server, &v2("/sign-ed25519"), Some(&good)).await.refused(401, "M_UNAUTHORIZED");
    for (path, account) in [(v2("/sign-ed25519"), Some(alice.token.as_str())), (SIGN.to_owned(), None)] {
        let sign = async |body: Option<&Value>| server.request(Method::POST, &path, account, body).await;
        verify(&sign(Some(&good)).await.ok(), ephemeral_key(&stored));
        let form = serde_urlencoded::to_string(good.as_object().expect("an object")).expect("a form");
        let form = server
            .build(Method::POST, &path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let form = account.into_iter().fold(form, |form, token| form.bearer_auth(token));
        verify(&server.send(form).await.ok(), ephemeral_key(&stored));
        let standard = key.replace('-', "+").replace('_', "/") + "=";
        let good = with(good.clone(), json!({ "private_key": standard }));
        verify(&sign(Some(&good)).await.ok(), ephemeral_key(&stored));

        for (member, wrong, status, errcode) in [
            ("private_key", json!("x"), 403, "M_FORBIDDEN"),
            ("private_key", json!("A".repeat(43)), 403, "M_FORBIDDEN"),
            ("private_key", json!(""), 403, "M_FORBIDDEN"),
            ("private_key", Value::Null, 400, "M_MISSING_PARAMS"),
            ("token", other["token"].clone(), 403, "M_FORBIDDEN"),
            ("token", json!("unknown"), 404, "M_UNRECOGNIZED"),
            ("token", json!(""), 400, "M_INVALID_PARAM"),
            ("token", Value::Null, 400, "M_MISSING_PARAMS"),
            ("mxid", json!("carol"), 400, "M_INVALID_PARAM"),
            ("mxid", json!(7), 400, "M_INVALID_PARAM"),
            ("mxid", Value::Null, 400, "M_MISSING_PARAMS"),
        ] {
            let reply = sign(Some(&with(good.clone(), json!({ member: wrong })))).await;
            reply.refused(status, errcode);
        }
        sign(None).await.refused(400, "M_MISSING_PARAMS");
    }
}

#[tokio::test]
async fn what_cannot_be_an_invitation() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for (extra, status, errcode) in [
        (json!({ "medium": "msisdn", "address": "447700900001" }), 400, "M_UNRECOGNIZED"),
        (json!({ "medium": "pigeon" }), 400, "M_UNRECOGNIZED"),
        (json!({ "medium": null }), 400, "M_MISSING_PARAMS"),
        (json!({ "address": "carol" }), 400, "M_INVALID_EMAIL"),
        (json!({ "address": "a@b.example\r\nBcc: c@d.example" }), 400, "M_INVALID_EMAIL"),
        (json!({ "address": null }), 400, "M_MISSING_PARAMS"),
        (json!({ "room_id": "#room:hs.test" }), 400, "M_INVALID_PARAM"),
        (json!({ "room_id": "!" }), 400, "M_INVALID_PARAM"),
        (json!({ "room_id": format!("!{}", "x".repeat(255)) }), 400, "M_INVALID_PARAM"),
        (json!({ "room_id": null }), 400, "M_MISSING_PARAMS"),
        (json!({ "sender": "alice" }), 400, "M_INVALID_PARAM"),
        (json!({ "sender": null }), 400, "M_MISSING_PARAMS"),
        (json!({ "sender": bob.id }), 403, "M_FORBIDDEN"),
        (json!({ "room_name": ["x"] }), 400, "M_INVALID_PARAM"),
    ] {
        store(&server, &alice, extra).await.refused(status, errcode);
    }
    // A room of version 12 has no server name in its ID.
    store(&server, &alice, json!({ "room_id": "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM" })).await.ok();
    server.mail_to(ADDRESS, 0).await;
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_bound_address_is_named_and_that_costs_a_lookup() {
    let server = Server::start_with(|config| config.lookup.max_addresses = 2).await;
    let (alice, carol) = (server.user("alice").await, server.user("carol").await);
    server.bind(&carol, ADDRESS, "secret").await;
    let refused = store(&server, &alice, json!({})).await.refused(400, "M_THREEPID_IN_USE");
    assert_eq!(refused["mxid"], json!(carol.id));
    store(&server, &alice, json!({ "address": "nobody@example.org" })).await.ok();
    store(&server, &alice, json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn invitations_are_limited_by_account_address_homeserver_and_ip() {
    type Case = (fn(&mut Config), bool, bool);
    // The tight limit; whether alice may then invite another address; whether bob may invite the same address.
    let cases: [Case; 4] = [
        (|config| config.limits.invite_per_account = Rate::new(1, 1), false, true),
        (|config| config.limits.invite_per_address = Rate::new(1, 1), true, false),
        (|config| config.limits.invite_per_homeserver = Rate::new(1, 1), false, false),
        (|config| config.limits.invite_per_ip = Rate::new(1, 1), false, false),
    ];
    for (tighten, other_address, other_account) in cases {
        let server = Server::start_with(tighten).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        store(&server, &alice, json!({})).await.ok();
        let other = store(&server, &alice, json!({ "address": "other@example.org" })).await;
        assert_eq!(other.status == 200, other_address);
        assert_eq!(store(&server, &bob, json!({})).await.status == 200, other_account);
        store(&server, &alice, json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    }
    let server = Server::start_with(|config| config.limits.sign_per_ip = Rate::new(1, 1)).await;
    let body = json!({ "mxid": CAROL, "token": "x", "private_key": "x" });
    sign(&server, SIGN, Some(&body)).await.refused(404, "M_UNRECOGNIZED");
    sign(&server, SIGN, Some(&body)).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn the_operator_may_block_rooms_homeservers_and_words() {
    let server = Server::start_with(|config| {
        config.invites.blocked_rooms = vec!["!spam:hs.test".to_owned()];
        config.invites.blocked_keywords = vec!["Casino".to_owned()];
    });
    let server = server.await;
    let alice = server.user("alice").await;
    for extra in [
        json!({ "room_id": "!spam:hs.test" }),
        json!({ "room_name": "the best CASINO" }),
        json!({ "sender_display_name": "casinos" }),
        json!({ "room_alias": "#casino:hs.test" }),
        json!({ "room_name": "the best Ca\u{200b}si\u{ad}no" }),
    ] {
        store(&server, &alice, extra).await.refused(403, "M_FORBIDDEN");
    }
    store(&server, &server.user("casino.royale").await, json!({})).await.refused(403, "M_FORBIDDEN");
    store(&server, &alice, json!({ "room_name": "Bridge club" })).await.ok();
    let server = server.restart(|config| {
        config.invites.blocked_homeservers = vec!["127.0.0.10".to_owned()];
    });
    store(&server, &alice, json!({})).await.ok();
    // The port makes no difference.
    for name in ["127.0.0.1", "127.0.0.1:1", server.homeserver.name()].map(str::to_owned) {
        let server = Server::start_with(|config| config.invites.blocked_homeservers = vec![name]).await;
        let alice = server.user("alice").await;
        store(&server, &alice, json!({})).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn what_strangers_write_is_cut_and_makes_no_links() {
    let server = Server::start_with(|config| config.invites.show_characters = 3).await;
    let alice = server.user("alice").await;
    let long = "x".repeat(5000);
    let stored = store(&server, &alice, json!({ "room_name": long, "room_type": "m.space" })).await.ok();
    assert_eq!(stored["display_name"], "car...@exa...");
    let mail = server.mail_to(ADDRESS, 0).await;
    assert!(mail.subject.contains("space") && mail.text.contains(&"x".repeat(63)));
    assert!(!mail.text.contains(&"x".repeat(64)));
    let evil = json!({ "room_name": "free at evil.example", "sender_display_name": "a\r\nBcc: x@y.example" });
    store(&server, &alice, evil).await.ok();
    let mail = server.mail_to(ADDRESS, 1).await;
    let raw = String::from_utf8_lossy(&mail.raw).to_lowercase();
    assert!(!raw.contains("evil.example") && !raw.contains("bcc:"), "{raw}");
}

#[tokio::test]
async fn nobody_invites_whose_matrix_id_would_be_a_link() {
    let server = Server::start().await;
    for localpart in ["www.evil.example", "evil.example/your-account"] {
        let evil = server.user(localpart).await;
        store(&server, &evil, json!({})).await.refused(403, "M_FORBIDDEN");
    }
    store(&server, &server.user("alice.smith").await, json!({})).await.ok();
}

#[tokio::test]
async fn a_day_has_so_many_invitations_and_no_restart_forgets_them() {
    let server = Server::start_with(|config| config.invites.daily_ceiling = at_least_one(2)).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    store(&server, &alice, json!({})).await.ok();
    let server = server.restart(|_| {});
    store(&server, &bob, json!({ "address": "dave@example.org" })).await.ok();
    let refused = store(&server, &alice, json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    let wait = refused["retry_after_ms"].as_u64().expect("a number");
    assert!(wait <= 24 * 3_600_000);
    server.clock.forward(Duration::from_millis(wait - 1));
    store(&server, &alice, json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    server.clock.forward(Duration::from_millis(1));
    store(&server, &alice, json!({})).await.ok();
}

#[tokio::test]
async fn the_users_of_one_domain_get_a_quarter_of_the_days_invitations_unless_the_operator_names_it() {
    let unnamed = Server::start_with(|config| config.invites.daily_ceiling = at_least_one(8)).await;
    let homeserver = Homeserver::start();
    let name = homeserver.name().to_owned();
    let named = Server::start_for(homeserver, |config| {
        config.invites.daily_ceiling = at_least_one(8);
        config.homeservers.allow = vec![name];
    });
    for (server, stored) in [(unnamed, 2), (named, 8)] {
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        for number in 0..stored {
            let body = json!({ "address": format!("a{number}@example.org") });
            store(&server, if number % 2 == 0 { &alice } else { &bob }, body).await.ok();
        }
        for address in ["new@example.org", "a0@example.org"] {
            let refused = store(&server, &bob, json!({ "address": address })).await;
            refused.refused(429, "M_LIMIT_EXCEEDED");
        }
    }
}

async fn cancel(server: &Server, user: &User, token: &str) -> Reply {
    let path = format!("/_bindery/v1/invitations/{token}");
    server.request(Method::DELETE, &path, Some(&user.token), None).await
}

#[tokio::test]
async fn the_sender_may_take_an_invitation_back_and_nobody_else() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let stored = store(&server, &alice, json!({})).await.ok();
    let token = stored["token"].as_str().expect("a token");
    let url = format!("{}&mxid={CAROL}", sign_url(&server.mail_to(ADDRESS, 0).await));
    cancel(&server, &bob, token).await.refused(404, "M_NOT_FOUND");
    cancel(&server, &alice, "unknown").await.refused(404, "M_NOT_FOUND");
    cancel(&server, &alice, "%00").await.refused(400, "M_INVALID_PARAM");
    let path = format!("/_bindery/v1/invitations/{token}");
    let reply = server.request(Method::DELETE, &path, None, None).await;
    assert_eq!(reply.headers["access-control-allow-origin"], "*");
    reply.refused(401, "M_UNAUTHORIZED");
    sign(&server, &url, None).await.ok();
    cancel(&server, &alice, token).await.ok();
    cancel(&server, &alice, token).await.refused(404, "M_NOT_FOUND");
    sign(&server, &url, None).await.refused(404, "M_UNRECOGNIZED");
    assert!(!is_valid(&server, "/ephemeral", ephemeral_key(&stored)).await);
}

#[tokio::test]
async fn invitations_end_after_their_days_and_leave_the_database() {
    for tasks in [true, false] {
        let server = if tasks { Server::start().await } else { Server::start_without_tasks() };
        let alice = server.user("alice").await;
        let stored = store(&server, &alice, json!({})).await.ok();
        let url = format!("{}&mxid={CAROL}", sign_url(&server.mail_to(ADDRESS, 0).await));
        let key = ephemeral_key(&stored);
        server.clock.forward(Duration::from_secs(30 * 24 * 3600 - 1));
        sign(&server, &url, None).await.ok();
        assert!(is_valid(&server, "/ephemeral", key).await);
        server.clock.forward(Duration::from_secs(1));
        // It expires at once, even if retention has not deleted it yet.
        assert!(!is_valid(&server, "/ephemeral", key).await);
        sign(&server, &url, None).await.refused(404, "M_UNRECOGNIZED");
        if tasks {
            let token = stored["token"].as_str().expect("a token");
            server.clock.forward(Duration::from_secs(3600));
            // The sender may cancel an expired invitation that is still stored.
            server.until("it is gone", async || cancel(&server, &alice, token).await.status == 404).await;
        }
    }
}
