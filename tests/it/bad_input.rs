//! Every refusal is a Matrix error and changes nothing: after all of them the database is the same, byte for
//! byte.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use bindery::domain::bucket::Rate;
use proptest::{collection::vec, prelude::*};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Server, User,
    homeserver::Homeserver,
    program::{Program, config_file},
    v2,
};

impl Server {
    fn database(&self) -> Vec<u8> {
        std::fs::read(self.config.data_dir.join("bindery.redb")).expect("the database")
    }

    async fn post_raw(
        &self,
        path: &str,
        user: &User,
        body: impl Into<reqwest::Body>,
    ) -> crate::support::Reply {
        self.send(self.build(Method::POST, &v2(path)).bearer_auth(&user.token).body(body)).await
    }
}

const POSTS: &[&str] = &[
    "/account/register",
    "/terms",
    "/lookup",
    "/validate/email/requestToken",
    "/validate/email/submitToken",
    "/3pid/bind",
    "/3pid/unbind",
];

#[tokio::test]
async fn malformed_bodies() {
    let server = Server::start_with(|config| config.limits.submit_token_per_ip = Rate::new(1000, 1000)).await;
    let user = server.user("alice").await;
    let before = server.database();
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep_object = "{\"a\":".repeat(12_000);
    for path in POSTS {
        for body in ["", "{", "{\"a\":1,}", "\u{0}", "{} {}", "'", &deep_object] {
            server.post_raw(path, &user, body.to_owned()).await.refused(400, "M_NOT_JSON");
        }
        // Also in a member that this endpoint ignores.
        for body in [&b"\xff\xfe"[..], b"{\"ignored\":\"\xff\"}", b"{\"\xc0\xaf\":1}"] {
            server.post_raw(path, &user, body.to_vec()).await.refused(400, "M_NOT_JSON");
        }
        for body in ["[]", "1", "\"x\"", "null", "true", "[[", &deep] {
            let reply = server.post_raw(path, &user, body.to_owned()).await;
            let allowed = ["M_INVALID_PARAM", "M_MISSING_PARAMS", "M_NOT_JSON"];
            assert!(allowed.contains(&reply.errcode().as_str()), "{}", reply.text);
        }
        server.post_raw(path, &user, "{}").await.refused(400, "M_MISSING_PARAMS");
    }
    assert!(server.database() == before);
}

/// The first line of the answer to these bytes.
fn answer_to(server: &Server, request: &str) -> String {
    let address = server.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer at once");
    line
}

#[tokio::test]
async fn broken_chunks_are_a_bad_request() {
    let server = Server::start().await;
    for chunks in ["zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}xx0\r\n\r\n", "fffffffffffffffff\r\n{}\r\n"] {
        let head = "POST /_matrix/identity/v2/account/register HTTP/1.1\r\nHost: id.test\r\nTransfer-Encoding: chunked";
        let line = answer_to(&server, &format!("{head}\r\n\r\n{chunks}"));
        assert!(line.starts_with("HTTP/1.1 400 "), "{chunks:?}: {line:?}");
    }
}

/// Anybody can send these, and fill the log.
#[test]
fn malformed_requests_log_no_warning_and_no_error() {
    let (dir, homeserver) = (tempfile::TempDir::new().expect("a directory"), Homeserver::start());
    let mut program = Program::start(&config_file(dir.path(), &homeserver));
    let head = "POST /_matrix/identity/v2/account/register HTTP/1.1\r\nHost: id.test\r\n";
    let long = "x".repeat(256 * 1024);
    for request in [
        "?\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nCookie: {long}\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        format!("{head}Content-Length: 9\r\n\r\n{{"),
    ] {
        let address = program.base.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("it accepts");
        // It may close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read_to_end(&mut Vec::new());
    }
    program.stop();
    let mut log = String::new();
    program.log.read_to_string(&mut log).expect("UTF-8");
    // The first request without the header of a proxy is a warning, whatever it is.
    let mut warnings = log.lines().filter(|line| line.contains("WARN") && !line.contains("X-Forwarded-For"));
    assert!(log.contains("stopped") && !log.contains("ERROR") && warnings.next().is_none(), "{log}");
}

#[tokio::test]
async fn a_session_is_unknown_at_the_endpoint_of_another_medium() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    let sid = server.request_token(&user, "a@example.org", "secret", 1).await;
    let token = server.mail_to("a@example.org", 0).await.token();
    let submitted = json!({ "sid": sid, "client_secret": "secret", "token": token });
    server.post("/validate/msisdn/submitToken", &user, &submitted).await.refused(404, "M_NO_VALID_SESSION");
    let query = format!("/validate/msisdn/submitToken?sid={sid}&client_secret=secret&token={token}");
    let page = server.request(Method::GET, &v2(&query), None, None).await;
    assert_eq!(page.status, 404);
    server.post("/validate/email/submitToken", &user, &submitted).await.ok();
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    for path in POSTS {
        if *path != "/lookup" {
            let reply = server.post_raw(path, &user, vec![b' '; 64 * 1024 + 1]).await;
            reply.refused(413, "M_TOO_LARGE");
        }
        let reply = server.post_raw(path, &user, vec![b' '; 512 * 1024 + 1]).await;
        reply.refused(413, "M_TOO_LARGE");
        let chunks = futures_util::stream::iter((0..600).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024])));
        let reply = server.post_raw(path, &user, reqwest::Body::wrap_stream(chunks)).await;
        reply.refused(413, "M_TOO_LARGE");
    }
    let most = format!("{{{}}}", " ".repeat(512 * 1024 - 2));
    server.post_raw("/lookup", &user, most).await.refused(400, "M_MISSING_PARAMS");
    let most = format!("{{{}}}", " ".repeat(64 * 1024 - 2));
    server.post_raw("/terms", &user, most).await.refused(400, "M_MISSING_PARAMS");
}

/// A valid body for each path, and for each of its members the values that Bindery must refuse.
fn good_bodies(server: &Server, user: &User, pepper: &str) -> Vec<(&'static str, Value)> {
    let threepid = json!({ "medium": "email", "address": "a@example.org" });
    vec![
        (
            "/account/register",
            json!({ "access_token": "t", "token_type": "Bearer", "matrix_server_name": server.homeserver.name(), "expires_in": 1 }),
        ),
        ("/terms", json!({ "user_accepts": ["https://id.test/none"] })),
        ("/lookup", json!({ "algorithm": "sha256", "pepper": pepper, "addresses": ["x"] })),
        (
            "/validate/email/requestToken",
            json!({ "email": "a@example.org", "client_secret": "s", "send_attempt": 1 }),
        ),
        ("/validate/email/submitToken", json!({ "sid": "x", "client_secret": "s", "token": "t" })),
        ("/3pid/bind", json!({ "sid": "x", "client_secret": "s", "mxid": user.id })),
        ("/3pid/unbind", json!({ "sid": "x", "client_secret": "s", "mxid": user.id, "threepid": threepid })),
    ]
}

#[tokio::test]
async fn missing_members_and_wrong_types() {
    let server = Server::start_with(|config| config.limits.submit_token_per_ip = Rate::new(1000, 1000)).await;
    let user = server.user("alice").await;
    let pepper =
        server.get("/hash_details", &user).await.ok()["lookup_pepper"].as_str().expect("text").to_owned();
    let before = server.database();
    for (path, good) in good_bodies(&server, &user, &pepper) {
        for member in good.as_object().expect("an object").keys() {
            let mut missing = good.clone();
            missing.as_object_mut().expect("an object").remove(member);
            server.post(path, &user, &missing).await.refused(400, "M_MISSING_PARAMS");
            missing[member] = Value::Null;
            server.post(path, &user, &missing).await.refused(400, "M_MISSING_PARAMS");
            for wrong in [json!({}), json!([[]]), json!(true), json!(-1.5)] {
                if member == "expires_in" && wrong.is_number() {
                    continue;
                }
                let mut body = good.clone();
                body[member] = wrong;
                let reply = server.post(path, &user, &body).await;
                assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text);
                let code = reply.errcode();
                assert!(
                    ["M_INVALID_PARAM", "M_MISSING_PARAMS"].contains(&code.as_str()),
                    "{path} {body}: {code}"
                );
            }
        }
    }
    assert!(server.database() == before);
}

#[tokio::test]
async fn parameters_that_parse_to_nothing() {
    let server = Server::start_with(|config| config.limits.submit_token_per_ip = Rate::new(1000, 1000)).await;
    let user = server.user("alice").await;
    let before = server.database();
    let long = "s".repeat(256);
    for secret in ["", " ", "a b", "a/b", "ä", "a\u{0}", "a,b", &long] {
        let body = json!({ "email": "a@example.org", "client_secret": secret, "send_attempt": 1 });
        server.post("/validate/email/requestToken", &user, &body).await.refused(400, "M_INVALID_PARAM");
        let body = json!({ "sid": "x", "client_secret": secret, "mxid": user.id });
        server.post("/3pid/bind", &user, &body).await.refused(400, "M_INVALID_PARAM");
        let body = json!({ "sid": secret, "client_secret": "s", "token": "t" });
        server.post("/validate/email/submitToken", &user, &body).await.refused(400, "M_INVALID_PARAM");
    }
    for mxid in
        ["", "alice", "alice:hs", "@alice", "@alice:", "@a:b c", "@alice:h\u{0}s", "@alice:[::1", "@a:b:c:d"]
    {
        let body = json!({ "sid": "x", "client_secret": "s", "mxid": mxid });
        server.post("/3pid/bind", &user, &body).await.refused(400, "M_INVALID_PARAM");
    }
    for attempt in [json!("x"), json!(""), json!(-1), json!(1.5), json!("1e3"), json!(u64::MAX as f64 * 4.0)]
    {
        let body = json!({ "email": "a@example.org", "client_secret": "s", "send_attempt": attempt });
        server.post("/validate/email/requestToken", &user, &body).await.refused(400, "M_INVALID_PARAM");
    }
    for (medium, address) in
        [("email", "a@b@c"), ("msisdn", "+44"), ("carrier-pigeon", "x"), ("Email", "a@b.c")]
    {
        let threepid = json!({ "medium": medium, "address": address });
        let body = json!({ "sid": "x", "client_secret": "s", "mxid": user.id, "threepid": threepid });
        server.post("/3pid/unbind", &user, &body).await.refused(400, "M_INVALID_PARAM");
    }
    assert!(server.database() == before);
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn addresses_that_are_none() {
    let rate = Rate::new(1000, 1000);
    let server = Server::start_with(|config| {
        config.limits.request_token_per_account = rate;
        config.limits.request_token_per_ip = rate;
    });
    let server = server.await;
    let user = server.user("alice").await;
    let before = server.database();
    let long = format!("{}@example.org", "a".repeat(500));
    let long_local = format!("{}@example.org", "a".repeat(65));
    for email in [
        "",
        "a",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a@@b",
        "a b@c.d",
        "a@b c",
        "a@b\r\nBcc: x@y.z",
        "a\r\n@b.c",
        "a\n@b.c",
        "Alice <a@b.c>",
        "<a@b.c>",
        "\"a b\"@c.d",
        "\"a\"@c.d",
        "a@b.c (comment)",
        "a@b.c,d@e.f",
        "a@b.c;d@e.f",
        "mailto:a@b.c\u{0}",
        ".a@b.c",
        "a.@b.c",
        "a..b@c.d",
        "a@.b.c",
        "a@b..c",
        "a@b.c.",
        "a@-b.c",
        "a@b_c.d",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "a@stra\u{df}e.de",
        "a\u{202e}b@c.d",
        "a\u{200b}@c.d",
        "a\u{2800}@c.d",
        "a\u{fffc}@c.d",
        "a\u{fffd}@c.d",
        "a\u{a0}b@c.d",
        "a@b.c\u{0}",
        "a@xn--zz",
        "a@xn--a.example",
        "a\\@b@c.d",
        &long,
        &long_local,
    ] {
        let body = json!({ "email": email, "client_secret": "s", "send_attempt": 1 });
        let reply = server.post("/validate/email/requestToken", &user, &body).await;
        assert_eq!(reply.errcode(), "M_INVALID_EMAIL", "{email:?}: {}", reply.text);
        assert_eq!(reply.status, 400);
    }
    assert!(server.database() == before);
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn sessions_and_accounts_of_others() {
    let server = Server::start().await;
    let (alice, mallory) = (server.user("alice").await, server.user("mallory").await);
    let sid = server.validate(&alice, "alice@example.org", "alices").await;
    let other = server.request_token(&mallory, "mallory@example.org", "mallorys", 1).await;
    let before = server.database();

    let submit = json!({ "sid": sid, "client_secret": "guess", "token": "t" });
    server.post("/validate/email/submitToken", &alice, &submit).await.refused(404, "M_NO_VALID_SESSION");
    let crossed = format!("/3pid/getValidated3pid?sid={sid}&client_secret=mallorys");
    server.get(&crossed, &mallory).await.refused(404, "M_NO_VALID_SESSION");

    let bind =
        |sid: &str, secret: &str, mxid: &str| json!({ "sid": sid, "client_secret": secret, "mxid": mxid });
    server
        .post("/3pid/bind", &mallory, &bind(&sid, "mallorys", &mallory.id))
        .await
        .refused(404, "M_NO_VALID_SESSION");
    server.post("/3pid/bind", &mallory, &bind(&sid, "alices", &alice.id)).await.refused(403, "M_FORBIDDEN");
    // The mail asked the owner about alice's account, so no other account may publish with this session.
    server.post("/3pid/bind", &mallory, &bind(&sid, "alices", &mallory.id)).await.refused(403, "M_FORBIDDEN");
    let unvalidated = bind(&other, "mallorys", &mallory.id);
    server.post("/3pid/bind", &mallory, &unvalidated).await.refused(400, "M_SESSION_NOT_VALIDATED");

    let unbind = |sid: &str, secret: &str, address: &str| {
        let threepid = json!({ "medium": "email", "address": address });
        json!({ "sid": sid, "client_secret": secret, "mxid": alice.id, "threepid": threepid })
    };
    let mut of_mallory = unbind(&sid, "alices", "alice@example.org");
    of_mallory["mxid"] = json!(mallory.id);
    for (body, status, code) in [
        (unbind(&sid, "guess", "alice@example.org"), 403, "M_FORBIDDEN"),
        (unbind(&sid, "alices", "bob@example.org"), 403, "M_FORBIDDEN"),
        (unbind(&other, "mallorys", "mallory@example.org"), 403, "M_FORBIDDEN"),
        // The owner confirmed alice's account, so her session removes nothing that another account published.
        (of_mallory, 403, "M_FORBIDDEN"),
    ] {
        server.post("/3pid/unbind", &alice, &body).await.refused(status, code);
    }
    assert!(server.database() == before);
}

#[tokio::test]
async fn sessions_that_are_over() {
    let server = Server::start_without_tasks();
    let alice = server.user("alice").await;
    let sid = server.request_token(&alice, "alice@example.org", "secret", 1).await;
    let token = server.mails()[0].token();
    let submit = |token: &str| json!({ "sid": sid, "client_secret": "secret", "token": token });
    for _ in 0..5 {
        let reply = server.post("/validate/email/submitToken", &alice, &submit("wrong")).await;
        reply.refused(400, "M_TOKEN_INCORRECT");
    }
    let before = server.database();
    let reply = server.post("/validate/email/submitToken", &alice, &submit(&token)).await;
    reply.refused(400, "M_SESSION_EXPIRED");
    assert!(server.database() == before);

    let sid = server.validate(&alice, "alice@example.org", "second").await;
    let bind = json!({ "sid": sid, "client_secret": "second", "mxid": alice.id });
    server.clock.forward(Duration::from_secs(24 * 3600 - 1));
    server.post("/3pid/bind", &alice, &bind).await.ok();
    server.clock.forward(Duration::from_secs(1));
    server.post("/3pid/bind", &alice, &bind).await.refused(400, "M_SESSION_EXPIRED");
    let path = format!("/3pid/getValidated3pid?sid={sid}&client_secret=second");
    server.get(&path, &alice).await.refused(400, "M_SESSION_EXPIRED");
}

#[tokio::test]
async fn logged_out_tokens() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let again = server.register("alice").await;
    server.post("/account/logout", &alice, &json!({})).await.ok();
    server.get("/account", &alice).await.refused(401, "M_UNAUTHORIZED");
    server.get("/account", &again).await.ok();
}

#[test]
fn arbitrary_requests_never_make_a_500() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let high = Rate::new(100_000, 100_000);
    let server = runtime.block_on(Server::start_with(|config| {
        config.limits.submit_token_per_ip = high;
        config.limits.register_per_ip = high;
    }));
    let user = runtime.block_on(server.user("alice"));
    let members =
        ["sid", "client_secret", "token", "mxid", "addresses", "algorithm", "pepper", "email", "threepid"];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from)
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z]{1,8}", inner), 0..4).prop_map(|pairs| { Value::Object(pairs.into_iter().collect()) })
        ]
    });
    let body = vec((0..members.len(), value), 0..6);
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 200, ..Default::default() });
    runner
        .run(&(0..POSTS.len(), body, vec(any::<u8>(), 0..200)), |(path, pairs, bytes)| {
            let body: Value =
                Value::Object(pairs.into_iter().map(|(at, value)| (members[at].to_owned(), value)).collect());
            runtime.block_on(async {
                // The client fails the test at a 500.
                server.post(POSTS[path], &user, &body).await;
                server.post_raw(POSTS[path], &user, bytes).await;
            });
            Ok(())
        })
        .expect("no input makes a 500");
}
