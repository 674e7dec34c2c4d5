//! Registration when the homeserver refuses, answers nonsense or is unreachable, and the allow list of
//! homeservers.

use std::io::Read;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Server, at_least_one, client,
    homeserver::{Answer, Homeserver, unused_address, user_info_path},
    program::{Program, config_file},
    v2,
};

/// The answer to the caller if a homeserver gave no usable answer, whatever the reason.
fn unreachable(name: &str) -> Value {
    let words = format!("The homeserver {name} could not be reached; try again later");
    json!({ "errcode": "M_UNKNOWN", "error": words })
}

/// The answer to the caller if a homeserver did not confirm the token, whatever the reason.
fn unconfirmed() -> Value {
    json!({ "errcode": "M_UNAUTHORIZED", "error": "The homeserver did not confirm this OpenID token" })
}

fn raw(status: u16, body: &str) -> Answer {
    Answer::Raw(status, "content-type", "application/json".to_owned(), body.as_bytes().to_vec())
}

#[tokio::test]
async fn a_homeserver_speaks_for_its_own_users_only() {
    let server = Server::start().await;
    let own = server.homeserver.name().to_owned();
    let users = [
        "@alice:other.test".to_owned(),
        "@alice:127.0.0.1".to_owned(),
        format!("@alice:{own}0"),
        format!("@alice:{own}.test"),
        format!("@alice:other.test@{own}"),
        format!("@alice:other.test:{own}"),
        format!("@alice:x{own}"),
        format!("alice:{own}"),
        format!("@alice:{own} "),
        format!("@alice:{own}\n"),
        format!(" @alice:{own}"),
        format!("@al ice:{own}"),
        format!("@alice\0:{own}"),
        format!("#alice:{own}"),
        format!("@{}:{own}", "a".repeat(255)),
        own.clone(),
        "@alice".to_owned(),
        "@alice:".to_owned(),
        String::new(),
    ];
    for user in users {
        server.homeserver.answer(&user_info_path("token"), Answer::Json(200, json!({ "sub": user })));
        let reply = server.register_with(&own, "token").await;
        assert_eq!((reply.status.as_u16(), reply.json()), (401, unconfirmed()), "{user:?}");
    }
    let body = json!({ "sub": format!("@alice:{own}") });
    server.homeserver.answer(&user_info_path("token"), Answer::Json(200, body));
    server.register_with(&own, "token").await.ok();
}

#[tokio::test]
async fn every_way_to_say_no_is_the_same() {
    let server = Server::start().await;
    let own = server.homeserver.name().to_owned();
    let user = json!({ "sub": format!("@alice:{own}") });
    let answers = [
        Answer::Json(200, json!({})),
        Answer::Json(200, json!({ "sub": null })),
        Answer::Json(200, json!({ "sub": 7 })),
        Answer::Json(200, json!({ "sub": [format!("@alice:{own}")] })),
        Answer::Json(200, json!({ "user_id": format!("@alice:{own}") })),
        Answer::Json(400, user.clone()),
        Answer::Json(401, user.clone()),
        Answer::Json(403, user.clone()),
        Answer::Json(404, user.clone()),
        Answer::Json(429, user.clone()),
        raw(401, "<html>127.0.0.1 says no</html>"),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        server.homeserver.answer(&user_info_path("token"), answer);
        let reply = server.register_with(&own, "token").await;
        assert_eq!((reply.status.as_u16(), reply.json()), (401, unconfirmed()), "answer {number}");
    }
    server.register_with(&own, "unknown").await.refused(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn every_way_to_give_no_usable_answer_is_the_same() {
    let server = Server::start_with(|config| config.homeservers.timeout_seconds = at_least_one(1)).await;
    let own = server.homeserver.name().to_owned();
    let user = json!({ "sub": format!("@alice:{own}") });
    let large = json!({ "sub": format!("@alice:{own}"), "padding": "x".repeat(5 * 1024) });
    server.homeserver.answer("/elsewhere", Answer::Json(200, user.clone()));
    let answers = [
        Answer::Json(500, user.clone()),
        Answer::Json(503, user.clone()),
        Answer::Json(201, user.clone()),
        Answer::Raw(301, "location", "/elsewhere".to_owned(), Vec::new()),
        Answer::Raw(302, "location", format!("https://{own}/elsewhere"), user.to_string().into_bytes()),
        Answer::Raw(307, "location", format!("http://{own}/elsewhere"), Vec::new()),
        raw(200, ""),
        raw(200, "{"),
        raw(200, "not json"),
        raw(200, "<html></html>"),
        raw(200, &format!("{user}{user}")),
        raw(200, "\u{feff}{}"),
        Answer::Json(200, json!([user])),
        Answer::Json(200, json!("127.0.0.1")),
        Answer::Json(200, json!(null)),
        Answer::Json(200, large),
        Answer::Huge(10 << 20),
        Answer::Silence,
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        server.homeserver.answer(&user_info_path("token"), answer);
        let reply = server.register_with(&own, "token").await;
        assert_eq!((reply.status.as_u16(), reply.json()), (502, unreachable(&own)), "answer {number}");
    }
    assert_eq!(server.homeserver.times_asked("/elsewhere"), 0);

    // No listener; a certificate of another authority; a name that does not exist.
    let stranger = Homeserver::start();
    let nobody = format!("{}:18448", unused_address());
    for name in [nobody.as_str(), stranger.name(), "hs.invalid:8448"] {
        let reply = server.register_with(name, "token").await;
        assert_eq!((reply.status.as_u16(), reply.json()), (502, unreachable(name)));
    }
    assert!(stranger.asked.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn an_answer_of_just_five_kibibytes_is_read() {
    let server = Server::start().await;
    let own = server.homeserver.name().to_owned();
    let mut body = json!({ "sub": format!("@alice:{own}") }).to_string();
    body.push_str(&" ".repeat(5 * 1024 - body.len()));
    server.homeserver.answer(&user_info_path("token"), raw(200, &body));
    server.register_with(&own, "token").await.ok();
    body.push(' ');
    server.homeserver.answer(&user_info_path("token"), raw(200, &body));
    server.register_with(&own, "token").await.refused(502, "M_UNKNOWN");
}

#[tokio::test]
async fn a_token_is_encoded_on_its_way() {
    let server = Server::start().await;
    let own = server.homeserver.name().to_owned();
    let encoded = "a%26sub%3Db%23%3F%2F%25%2B%22";
    let body = json!({ "sub": format!("@alice:{own}") });
    server.homeserver.answer(&user_info_path(encoded), Answer::Json(200, body));
    server.register_with(&own, "a&sub=b#?/%+\"").await.ok();
    for token in ["", "a b", "a\r\nHost: b", "\u{e9}", &"a".repeat(4097)] {
        server.register_with(&own, token).await.refused(400, "M_INVALID_PARAM");
    }
    assert_eq!(server.homeserver.asked.lock().expect("not poisoned").len(), 1);
}

#[tokio::test]
async fn only_homeservers_on_the_list_are_served() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let own = server.homeserver.name().to_owned();
    let asked_before = server.homeserver.connections();

    let server = server.restart(|config| config.homeservers.allow = vec!["other.test".to_owned()]);
    let token = server.homeserver.openid_token("@bob:other.test");
    let words = "This identity server does not serve users of that homeserver";
    let refusal = json!({ "errcode": "M_FORBIDDEN", "error": words });
    assert_eq!(server.register_with(&own, &token).await.refused(403, "M_FORBIDDEN"), refusal);
    assert_eq!(server.homeserver.connections(), asked_before, "nobody was asked");
    // A token from before the operator narrowed the list is refused, but stays valid.
    for path in ["/account", "/hash_details"] {
        assert_eq!(server.get(path, &alice).await.refused(403, "M_FORBIDDEN"), refusal);
    }
    let body = json!({ "email": "alice@example.org", "client_secret": "secret", "send_attempt": 1 });
    server.post("/validate/email/requestToken", &alice, &body).await.refused(403, "M_FORBIDDEN");
    assert_eq!(server.mails().len(), 0);

    let server = server.restart(|config| config.homeservers.allow = vec!["other.test".to_owned(), own]);
    server.get("/account", &alice).await.ok();
    server.get("/hash_details", &alice).await.ok();
    server.register("carol").await;

    let server = server.restart(|config| config.homeservers.allow.clear());
    server.get("/account", &alice).await.ok();
    server.request(Method::POST, &v2("/account/logout"), Some(&alice.token), None).await.ok();
}

#[tokio::test]
async fn no_log_line_names_the_ip_address_of_a_homeserver() {
    let (dir, homeserver) = (TempDir::new().expect("a directory"), Homeserver::start());
    homeserver.answer(&user_info_path("token"), raw(200, "not json"));
    // The error of the TLS library names the address that the certificate is not for.
    let authority = homeserver.authority.clone();
    let misnamed = Homeserver::start_under(authority, &["hs.test"], |address| address.to_string());
    let nobody = format!("{}:18448", unused_address());
    let mut program = Program::start(&config_file(dir.path(), &homeserver));
    for name in [homeserver.name(), misnamed.name(), &nobody] {
        let body = json!({
            "access_token": "token", "token_type": "Bearer", "matrix_server_name": name, "expires_in": 1,
        });
        let url = format!("{}{}", program.base, v2("/account/register"));
        let answer = client().post(url).body(body.to_string()).send().await.expect("an answer");
        assert_eq!(answer.status(), 502);
    }
    program.stop();
    let mut log = String::new();
    program.log.read_to_string(&mut log).expect("a log");
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("a request to a homeserver failed")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(!lines.iter().any(|line| line.contains("127.")), "{lines:?}");
}
