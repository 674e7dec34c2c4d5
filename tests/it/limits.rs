//! Rate limits for each subject: 429 with the right `Retry-After`, and a refused request costs nothing.

use std::{io::Read, time::Duration};

use bindery::{config::Config, domain::bucket::Rate};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Reply, Server, User,
    homeserver::Homeserver,
    program::{Program, config_file},
    v2,
};

fn one() -> Rate {
    Rate::new(1, 60)
}

/// Moves the test's clock by the wait that the answer names.
fn wait(server: &Server, reply: Reply) {
    let header: u64 = reply.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    let error = reply.refused(429, "M_LIMIT_EXCEEDED");
    let wait = error["retry_after_ms"].as_u64().expect("a number");
    assert!(wait > 0 && header * 1000 >= wait);
    server.clock.forward(Duration::from_millis(wait));
}

async fn ask(server: &Server, user: &User, address: &str) -> Reply {
    let body = json!({ "email": address, "client_secret": "s", "send_attempt": 1 });
    server.post("/validate/email/requestToken", user, &body).await
}

async fn limited(change: impl FnOnce(&mut Config)) -> Server {
    Server::start_with(change).await
}

/// The path that needs no token.
const SIGN: &str = "/_matrix/identity/api/v1/sign-ed25519";

#[tokio::test]
async fn registrations_for_each_homeserver_and_ip() {
    for by_ip in [true, false] {
        let server = limited(|config| {
            let limit = match by_ip {
                true => &mut config.limits.register_per_ip,
                false => &mut config.limits.register_per_homeserver,
            };
            *limit = one();
        });
        let server = server.await;
        let body = json!({
            "access_token": server.homeserver.openid_token(&format!("@a:{}", server.homeserver.name())),
            "token_type": "Bearer", "matrix_server_name": server.homeserver.name(), "expires_in": 1,
        });
        let register =
            async || server.request(Method::POST, &v2("/account/register"), None, Some(&body)).await;
        register().await.ok();
        wait(&server, register().await);
        register().await.ok();
    }
}

#[tokio::test]
async fn mails_for_each_account_address_homeserver_and_ip() {
    // The tight limit. After alice's first request: whether she may request for another address, and whether bob
    // may request for the same one.
    type Case = (fn(&mut Config), bool, bool);
    let cases: [Case; 5] = [
        (|config| config.limits.request_token_per_account_and_address = one(), true, true),
        (|config| config.limits.request_token_per_account = one(), false, true),
        (|config| config.limits.request_token_per_address = one(), true, false),
        (|config| config.limits.request_token_per_homeserver = one(), false, false),
        (|config| config.limits.request_token_per_ip = one(), false, false),
    ];
    for (tighten, other_address, other_account) in cases {
        let server = limited(tighten).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        ask(&server, &alice, "one@example.org").await.ok();
        assert_eq!(ask(&server, &alice, "two@example.org").await.status == 200, other_address);
        assert_eq!(ask(&server, &bob, "one@example.org").await.status == 200, other_account);
        let refused = ask(&server, &alice, "ONE@example.org").await;
        wait(&server, refused);
        ask(&server, &alice, "one@example.org").await.ok();
    }
}

#[tokio::test]
async fn strangers_cannot_use_up_a_homeservers_registrations() {
    let server = limited(|config| config.limits.register_per_homeserver = one()).await;
    let made_up = json!({
        "access_token": "made-up", "token_type": "Bearer",
        "matrix_server_name": server.homeserver.name(), "expires_in": 1,
    });
    for _ in 0..5 {
        let reply = server.request(Method::POST, &v2("/account/register"), None, Some(&made_up)).await;
        reply.refused(401, "M_UNAUTHORIZED");
    }
    server.register("alice").await;
}

#[tokio::test]
async fn tokens_submitted_by_one_account() {
    let server = limited(|config| config.limits.submit_token_per_account = one()).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let body = json!({ "sid": "x", "client_secret": "s", "token": "t" });
    let submit = async |user: &User| server.post("/validate/email/submitToken", user, &body).await;
    submit(&alice).await.refused(404, "M_NO_VALID_SESSION");
    wait(&server, submit(&alice).await);
    submit(&bob).await.refused(404, "M_NO_VALID_SESSION");
}

#[tokio::test]
async fn tokens_submitted_from_one_ip() {
    let server = limited(|config| config.limits.submit_token_per_ip = one()).await;
    let alice = server.user("alice").await;
    let body = json!({ "sid": "x", "client_secret": "s", "token": "t" });
    let submit = async || server.post("/validate/email/submitToken", &alice, &body).await;
    submit().await.refused(404, "M_NO_VALID_SESSION");
    wait(&server, submit().await);
    submit().await.refused(404, "M_NO_VALID_SESSION");
    let link = v2("/validate/email/submitToken?sid=x&client_secret=s&token=t");
    assert_eq!(server.request(Method::GET, &link, None, None).await.status, 429);
}

#[tokio::test]
async fn addresses_published_by_one_account_and_from_one_ip() {
    type Case = (fn(&mut Config), bool);
    let cases: [Case; 2] = [
        (|config| config.limits.bind_per_account = one(), true),
        (|config| config.limits.bind_per_ip = one(), false),
    ];
    for (tighten, other_account) in cases {
        let server = limited(tighten).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let body = |user: &User| json!({ "sid": "x", "client_secret": "s", "mxid": user.id });
        let bind = async |user: &User| server.post("/3pid/bind", user, &body(user)).await;
        bind(&alice).await.refused(404, "M_NO_VALID_SESSION");
        assert_eq!(bind(&bob).await.status == 404, other_account);
        wait(&server, bind(&alice).await);
        bind(&alice).await.refused(404, "M_NO_VALID_SESSION");
    }
}

#[tokio::test]
async fn the_proxy_says_who_calls() {
    let server = limited(|config| config.limits.sign_per_ip = one()).await;
    let body = json!({ "mxid": "@a:b", "token": "x", "private_key": "x" }).to_string();
    let sign = async |from: &str| {
        let request = server.build(Method::POST, SIGN).header("x-forwarded-for", from);
        let request = request.header("content-type", "application/json").body(body.clone());
        server.send(request).await.status
    };
    assert_eq!(sign("198.51.100.1").await, 404);
    assert_eq!(sign("198.51.100.1").await, 429);
    assert_eq!(sign("6.6.6.6, 198.51.100.1").await, 429, "what a client adds in front does not count");
    assert_eq!(sign("198.51.100.2").await, 404);
    assert_eq!(sign("2001:db8::1").await, 404);
    assert_eq!(sign("2001:db8::2").await, 429, "an IPv6 network is one client");
    assert_eq!(sign("2001:db8:0:1::1").await, 404);
}

#[tokio::test]
async fn neighbouring_networks_of_a_caller_count_together() {
    let server = limited(|config| config.limits.sign_per_ip = one()).await;
    let body = json!({ "mxid": "@a:b", "token": "x", "private_key": "x" }).to_string();
    let mut answered = 0;
    // Each of them is another /64 of one /48.
    for network in 0..20 {
        let from = format!("2001:db8:0:{:x}::1", network * 0x100);
        let request = server.build(Method::POST, SIGN).header("x-forwarded-for", from);
        let request = request.header("content-type", "application/json").body(body.clone());
        answered += usize::from(server.send(request).await.status == 404);
    }
    assert_eq!(answered, 4, "a /48 has four times what one network has");
}

#[tokio::test]
async fn a_shared_limit_names_a_coarse_wait_and_an_own_one_the_exact_wait() {
    type Change = fn(&mut Config);
    let cases: [(Change, u64); 2] = [
        (|config| config.limits.request_token_per_address = Rate::new(1, 50), 5 * 60_000),
        (|config| config.limits.request_token_per_account = Rate::new(1, 50), 72_000),
    ];
    for (tighten, wait) in cases {
        let server = limited(tighten).await;
        let alice = server.user("alice").await;
        ask(&server, &alice, "one@example.org").await.ok();
        let refused = ask(&server, &alice, "one@example.org").await.refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(refused["retry_after_ms"], wait);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn refused_requests_write_one_line_for_all_of_them() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let mut text = std::fs::read_to_string(&config).expect("the configuration");
    text += "invites.daily_ceiling = 1\nlimits.invite_per_account = { burst = 1000, per_hour = 1000 }\n";
    std::fs::write(&config, text).expect("written");
    let mut program = Program::start(&config);
    let client = crate::support::client();
    let alice = format!("@alice:{}", homeserver.name());
    let post = async |path: &str, token: &str, body: serde_json::Value| {
        let request = client.post(format!("{}{}", program.base, v2(path))).bearer_auth(token);
        let response = request.body(body.to_string()).send().await.expect("an answer");
        let status = response.status().as_u16();
        let body: serde_json::Value =
            serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        (status, body)
    };
    let register = |token: String| {
        json!({
            "access_token": token, "token_type": "Bearer",
            "matrix_server_name": homeserver.name(), "expires_in": 3600,
        })
    };
    let (_, registered) = post("/account/register", "", register(homeserver.openid_token(&alice))).await;
    let token = registered["token"].as_str().expect("a token").to_owned();
    crate::support::accept_terms(&program.base, &token).await;
    let mut refused = 0;
    for number in 0..40 {
        let address = format!("a{number}@example.org");
        let body = json!({ "medium": "email", "address": address, "room_id": "!a:b", "sender": alice });
        refused += u32::from(post("/store-invite", &token, body).await.0 == 429);
    }
    assert_eq!(refused, 39);
    program.stop();
    let mut log = String::new();
    program.log.read_to_string(&mut log).expect("its log");
    let lines: Vec<_> =
        log.lines().filter(|line| line.contains("invites.daily_ceiling is reached")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines[1].contains("further lines like this one were left out") && lines[1].contains("times=38"),
        "{log}"
    );
}
