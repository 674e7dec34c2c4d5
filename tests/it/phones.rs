//! Validating phone numbers: codes, limits on requests and tries, and homeservers that validate for people
//! without an account.

use std::time::Duration;

use bindery::{config::Config, domain::bucket::Rate};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Reply, Server, User, accept_terms, client,
    gateway::Gateway,
    hash,
    homeserver::{Answer, Homeserver},
    program::{Program, config_file},
    v2,
};

const REQUEST: &str = "/validate/msisdn/requestToken";
const SUBMIT: &str = "/validate/msisdn/submitToken";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn unlimited(config: &mut Config) {
    let rate = Rate::new(10_000, 10_000);
    let limits = &mut config.limits;
    limits.sms_per_number = rate;
    limits.sms_per_country = rate;
    limits.sms_per_account = rate;
    limits.sms_per_homeserver = rate;
    limits.sms_per_ip = rate;
}

async fn server(gateway: &Gateway, change: impl FnOnce(&mut Config)) -> Server {
    let setup = |config: &mut Config| {
        gateway.configure(config);
        unlimited(config);
        change(config);
    };
    Server::start_with(setup).await
}

fn wanted(number: &str, attempt: u64) -> Value {
    json!({ "client_secret": "secret", "country": "GB", "phone_number": number, "send_attempt": attempt })
}

async fn request(server: &Server, user: &User, number: &str, attempt: u64) -> Reply {
    server.post(REQUEST, user, &wanted(number, attempt)).await
}

fn sid(answer: &Value) -> String {
    answer["sid"].as_str().expect("a sid").to_owned()
}

fn presented(sid: &str, code: &str) -> Value {
    json!({ "sid": sid, "client_secret": "secret", "token": code })
}

/// A code that is not this one.
fn wrong(code: &str) -> String {
    let digit = if code.starts_with('0') { '1' } else { '0' };
    format!("{digit}{}", &code[1..])
}

async fn find(server: &Server, user: &User, number: &str) -> Option<String> {
    let details = server.get("/hash_details", user).await.ok();
    let pepper = details["lookup_pepper"].as_str().expect("a pepper");
    let hash = hash(number, "msisdn", pepper);
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [hash] });
    let reply = server.post("/lookup", user, &body).await.ok();
    reply["mappings"][&hash].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_number_is_verified_published_found_and_withdrawn() {
    let gateway = Gateway::start();
    let server = server(&gateway, |_| {}).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let asked = request(&server, &alice, "07400 123456", 1).await.ok();
    assert_eq!((&asked["msisdn"], &asked["intl_fmt"]), (&json!("447400123456"), &json!("+44 7400 123456")));
    assert_eq!(gateway.told()[0].body["to"], "+447400123456");
    let (sid, code) = (sid(&asked), gateway.code());
    let session = format!("/3pid/getValidated3pid?sid={sid}&client_secret=secret");
    server.get(&session, &alice).await.refused(400, "M_SESSION_NOT_VALIDATED");
    server.post(SUBMIT, &alice, &presented(&sid, &wrong(&code))).await.refused(400, "M_TOKEN_INCORRECT");
    let typed = format!("{} {}", &code[..3], &code[3..]);
    server.post(SUBMIT, &alice, &presented(&sid, &typed)).await.ok();
    server.post(SUBMIT, &alice, &presented(&sid, &code)).await.ok();
    let link = |code: &str| v2(&format!("{SUBMIT}?sid={sid}&client_secret=secret&token={code}"));
    assert_eq!(server.request(Method::GET, &link(&code), None, None).await.status, 200);
    assert_eq!(server.request(Method::GET, &link(&wrong(&code)), None, None).await.status, 404);
    assert_eq!(server.get(&session, &alice).await.ok()["address"], "447400123456");
    assert_eq!(find(&server, &bob, "447400123456").await, None, "validation publishes nothing");

    let body = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id });
    server.post("/3pid/bind", &bob, &with(&body, "mxid", bob.id.as_str())).await.refused(403, "M_FORBIDDEN");
    assert_eq!(server.post("/3pid/bind", &alice, &body).await.ok()["medium"], "msisdn");
    assert_eq!(find(&server, &bob, "447400123456").await, Some(alice.id.clone()));
    let threepid = json!({ "medium": "msisdn", "address": "447400123456" });
    let mut unbind = body.clone();
    unbind["threepid"] = threepid;
    server.request(Method::POST, &v2("/3pid/unbind"), None, Some(&unbind)).await.ok();
    assert_eq!(find(&server, &bob, "447400123456").await, None);
}

fn with(body: &Value, member: &str, value: impl Into<Value>) -> Value {
    let mut body = body.clone();
    body[member] = value.into();
    body
}

#[tokio::test]
async fn what_cannot_be_asked_for() {
    let gateway = Gateway::start();
    let server = server(&gateway, |config| config.sms.countries = vec!["GB".to_owned()]).await;
    let alice = server.user("alice").await;
    for (member, value, errcode) in [
        ("phone_number", json!("07400 12345"), "M_INVALID_ADDRESS"),
        ("phone_number", json!("call me"), "M_INVALID_ADDRESS"),
        ("phone_number", json!(""), "M_INVALID_ADDRESS"),
        ("phone_number", json!(null), "M_MISSING_PARAMS"),
        ("phone_number", json!(7_400_123_456_u64), "M_INVALID_PARAM"),
        ("country", json!("ZZ"), "M_INVALID_ADDRESS"),
        ("country", json!(null), "M_MISSING_PARAMS"),
        ("client_secret", json!("a b"), "M_INVALID_PARAM"),
        ("send_attempt", json!("x"), "M_INVALID_PARAM"),
        ("phone_number", json!("+33612345678"), "M_DESTINATION_REJECTED"),
        ("country", json!("US"), "M_INVALID_ADDRESS"),
    ] {
        let body = with(&wanted("07400 123456", 1), member, value);
        server.post(REQUEST, &alice, &body).await.refused(400, errcode);
    }
    assert!(gateway.told().is_empty());
    let reply = server.request(Method::POST, &v2(REQUEST), None, Some(&wanted("07400 123456", 1))).await;
    reply.refused(401, "M_UNAUTHORIZED");
    let server = server.restart(|config| config.sms = bindery::config::Sms::default());
    request(&server, &alice, "07400 123456", 1).await.refused(400, "M_DESTINATION_REJECTED");
}

#[tokio::test]
async fn each_new_attempt_has_a_new_code_and_only_the_last_is_good() {
    let gateway = Gateway::start();
    let server = server(&gateway, |_| {}).await;
    let alice = server.user("alice").await;
    let first = sid(&request(&server, &alice, "07400 123456", 1).await.ok());
    let old = gateway.code();
    // The same number in another spelling, and the same attempt.
    assert_eq!(sid(&request(&server, &alice, "+44 (0)7400-123456", 1).await.ok()), first);
    assert_eq!(gateway.told().len(), 1);
    assert_eq!(sid(&request(&server, &alice, "07400 123456", 2).await.ok()), first);
    let new = gateway.code();
    if old != new {
        server.post(SUBMIT, &alice, &presented(&first, &old)).await.refused(400, "M_TOKEN_INCORRECT");
    }
    let server = server.restart(|_| {});
    server.post(SUBMIT, &alice, &presented(&first, &new)).await.ok();
    // The code is valid only for its own session.
    let other = sid(&request(&server, &alice, "07400 123457", 1).await.ok());
    let reply = server.post(SUBMIT, &alice, &presented(&other, &new)).await;
    assert!(reply.status == 400 || gateway.code() == new);
}

#[tokio::test]
async fn a_message_that_does_not_leave_spoils_no_code_that_arrived() {
    for also_again in [false, true] {
        let gateway = Gateway::start();
        let server = server(&gateway, |_| {}).await;
        let alice = server.user("alice").await;
        let sid = sid(&request(&server, &alice, "07400 123456", 1).await.ok());
        let arrived = gateway.code();
        gateway.answer("/send", Answer::Json(500, json!({})));
        for _ in 0..2 {
            request(&server, &alice, "07400 123456", 2).await.refused(400, "M_SEND_ERROR");
        }
        if also_again {
            // After the gateway accepts a message, only its code is valid.
            gateway.answer("/send", Answer::Json(200, json!({})));
            request(&server, &alice, "07400 123456", 2).await.ok();
            let last = gateway.code();
            if last != arrived {
                let reply = server.post(SUBMIT, &alice, &presented(&sid, &arrived)).await;
                reply.refused(400, "M_TOKEN_INCORRECT");
            }
            server.post(SUBMIT, &alice, &presented(&sid, &last)).await.ok();
        } else {
            let server = server.restart(|_| {});
            server.post(SUBMIT, &alice, &presented(&sid, &arrived)).await.ok();
        }
    }
}

#[tokio::test]
async fn a_gateway_that_fails_is_a_send_error_and_may_be_tried_again() {
    let gateway = Gateway::start();
    let server = server(&gateway, |config| {
        config.sms.http.timeout_seconds = crate::support::at_least_one(1);
    });
    let server = server.await;
    let alice = server.user("alice").await;
    for answer in [Answer::Json(500, json!({})), Answer::Json(402, json!({})), Answer::Silence] {
        gateway.answer("/send", answer);
        request(&server, &alice, "07400 123456", 1).await.refused(400, "M_SEND_ERROR");
    }
    gateway.answer("/send", Answer::Json(200, json!({})));
    let sid = sid(&request(&server, &alice, "07400 123456", 1).await.ok());
    assert_eq!(gateway.told().len(), 4);
    server.post(SUBMIT, &alice, &presented(&sid, &gateway.code())).await.ok();
}

#[tokio::test]
async fn five_wrong_codes_end_a_session_also_when_they_come_at_once() {
    let gateway = Gateway::start();
    let server = server(&gateway, |config| config.limits.submit_token_per_account = Rate::new(99, 99)).await;
    let alice = server.user("alice").await;
    let first = sid(&request(&server, &alice, "07400 123456", 1).await.ok());
    let code = gateway.code();
    let guess = presented(&first, &wrong(&code));
    let replies = join_all((0..20).map(|_| server.post(SUBMIT, &alice, &guess))).await;
    let counted = replies.iter().filter(|reply| reply.errcode() == "M_TOKEN_INCORRECT").count();
    let ended = replies.iter().filter(|reply| reply.errcode() == "M_SESSION_EXPIRED").count();
    assert_eq!((counted, ended), (5, 15));
    server.post(SUBMIT, &alice, &presented(&first, &code)).await.refused(400, "M_SESSION_EXPIRED");
    // The next request starts a new session.
    let second = sid(&request(&server, &alice, "07400 123456", 1).await.ok());
    assert_ne!(second, first);
    server.post(SUBMIT, &alice, &presented(&second, &gateway.code())).await.ok();
}

/// A line of the process's status in MiB.
fn memory(program: &Program, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.child.id())).expect("it runs");
    let line = status.lines().find_map(|status| status.strip_prefix(line)).expect("this line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

#[tokio::test]
async fn codes_take_bounded_memory_however_many_are_hashed() {
    let (dir, homeserver) = (tempfile::TempDir::new().expect("a directory"), Homeserver::start());
    let config = config_file(dir.path(), &homeserver);
    let mut text = std::fs::read_to_string(&config).expect("readable");
    text.push_str("sms.gateway = 'directory'\nsms.countries = ['GB']\n");
    let sms = ["account", "homeserver", "ip", "country"].map(|of| format!("sms_per_{of}"));
    let tokens = ["account", "homeserver", "ip"].map(|of| format!("submit_token_per_{of}"));
    for limit in sms.into_iter().chain(tokens) {
        text.push_str(&format!("limits.{limit} = {{ burst = 10000, per_hour = 10000 }}\n"));
    }
    std::fs::write(&config, text).expect("written");
    let mut program = Program::start(&config);
    let (base, client) = (program.base.clone(), client());
    let post = async |path: &str, token: &str, body: Value| -> Value {
        let request = client.post(format!("{base}{}", v2(path))).bearer_auth(token).body(body.to_string());
        let text = request.send().await.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&text).expect("JSON")
    };
    let registration = json!({
        "access_token": homeserver.openid_token(&format!("@alice:{}", homeserver.name())),
        "token_type": "Bearer", "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let registered = post("/account/register", "", registration).await;
    let token = registered["token"].as_str().expect("a token");
    accept_terms(&base, token).await;
    let before = memory(&program, "VmRSS:");
    let work = (0..12).map(|number| {
        let post = &post;
        async move {
            let sid = sid(&post(REQUEST, token, wanted(&format!("07400 1234{number:02}"), 1)).await);
            join_all((0..8).map(|_| post(SUBMIT, token, presented(&sid, "none")))).await
        }
    });
    let answers: Vec<Value> = join_all(work).await.into_iter().flatten().collect();
    let wrong = answers.iter().filter(|answer| answer["errcode"] == "M_TOKEN_INCORRECT").count();
    let limited = answers.iter().filter(|answer| answer["errcode"] == "M_LIMIT_EXCEEDED").count();
    assert_eq!((wrong, limited), (12 * 5, 0));
    let (peak, after) = (memory(&program, "VmHWM:") - before, memory(&program, "VmRSS:") - before);
    // Two buffers of 19 MiB, and what else a debug build keeps of a hundred requests.
    assert!(peak <= 64 && after <= 50, "{peak} and {after} MiB more than {before}");
    program.stop();
}

#[tokio::test]
async fn messages_are_limited_by_number_country_account_homeserver_and_ip() {
    type Case = (fn(&mut Config), [bool; 3]);
    // The tight limit. After alice has requested a code for one number: whether she may request for another
    // number of the country, whether she may for a number of another country, and whether bob may for the same
    // number.
    let cases: [Case; 5] = [
        (|config| config.limits.sms_per_number = Rate::new(1, 1), [true, true, false]),
        (|config| config.limits.sms_per_country = Rate::new(1, 1), [false, true, false]),
        (|config| config.limits.sms_per_account = Rate::new(1, 1), [false, false, true]),
        (|config| config.limits.sms_per_homeserver = Rate::new(1, 1), [false, false, false]),
        (|config| config.limits.sms_per_ip = Rate::new(1, 1), [false, false, false]),
    ];
    for (tighten, expected) in cases {
        let gateway = Gateway::start();
        let server = server(&gateway, tighten).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        request(&server, &alice, "07400 123456", 1).await.ok();
        let replies = [
            request(&server, &alice, "07400 123457", 1).await,
            request(&server, &alice, "+33612345678", 1).await,
            request(&server, &bob, "07400 123456", 1).await,
        ];
        assert_eq!(replies.each_ref().map(|reply| reply.status == 200), expected);
        for reply in replies.into_iter().filter(|reply| reply.status != 200) {
            reply.refused(429, "M_LIMIT_EXCEEDED");
        }
        request(&server, &alice, "07400 123456", 2).await.refused(429, "M_LIMIT_EXCEEDED");
    }
}

#[tokio::test]
async fn only_messages_that_leave_count_for_a_number_a_country_and_the_day() {
    let tighten: [fn(&mut Config); 3] = [
        |config| config.limits.sms_per_number = Rate::new(2, 1),
        |config| config.limits.sms_per_country = Rate::new(2, 1),
        |config| config.sms.daily_ceiling = crate::support::at_least_one(2),
    ];
    for tighten in tighten {
        let gateway = Gateway::start();
        let server = server(&gateway, tighten).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        for _ in 0..5 {
            request(&server, &alice, "07400 123456", 1).await.ok();
        }
        assert_eq!(gateway.told().len(), 1);
        request(&server, &bob, "07400 123456", 1).await.ok();
        request(&server, &alice, "07400 123456", 2).await.refused(429, "M_LIMIT_EXCEEDED");
        assert_eq!(gateway.told().len(), 2);
    }
    // A request that a limit refuses does not count towards the daily ceiling.
    let gateway = Gateway::start();
    let server = server(&gateway, |config| {
        config.limits.sms_per_number = Rate::new(1, 1);
        config.sms.daily_ceiling = crate::support::at_least_one(2);
    });
    let server = server.await;
    let alice = server.user("alice").await;
    request(&server, &alice, "07400 123456", 1).await.ok();
    for _ in 0..3 {
        request(&server, &alice, "07400 123456", 2).await.refused(429, "M_LIMIT_EXCEEDED");
    }
    request(&server, &alice, "07400 123457", 1).await.ok();
}

#[tokio::test]
async fn countries_with_one_calling_code_have_a_limit_each() {
    let gateway = Gateway::start();
    let server = server(&gateway, |config| config.limits.sms_per_country = Rate::new(1, 1)).await;
    let alice = server.user("alice").await;
    // The United States, Canada, Jamaica, the Dominican Republic.
    let numbers = ["+1 201 555 0123", "+1 506 234 5678", "+1 876 210 1234", "+1 809 234 5678"];
    for number in numbers {
        request(&server, &alice, number, 1).await.ok();
    }
    for number in ["+1 201 555 0124", "+1 876 210 1235"] {
        request(&server, &alice, number, 1).await.refused(429, "M_LIMIT_EXCEEDED");
    }
}

#[test]
fn one_homeserver_cannot_use_up_a_country_or_a_day() {
    let config = Config::default();
    let own = config.limits.sms_per_homeserver;
    let country = config.limits.sms_per_country;
    assert!(own.burst.get() * 4 <= country.burst.get() && own.per_hour.get() * 4 <= country.per_hour.get());
    let in_a_day = own.burst.get() + 24 * own.per_hour.get();
    assert!(in_a_day * 3 <= config.sms.daily_ceiling.get() * 2);
}

#[tokio::test]
async fn a_day_has_so_many_messages_and_no_restart_forgets_them() {
    let gateway = Gateway::start();
    let server = server(&gateway, |config| config.sms.daily_ceiling = crate::support::at_least_one(2)).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    request(&server, &alice, "07400 123456", 1).await.ok();
    let server = server.restart(|_| {});
    request(&server, &bob, "07400 123457", 1).await.ok();
    let refused = request(&server, &alice, "07400 123458", 1).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(gateway.told().len(), 2);
    let wait = refused["retry_after_ms"].as_u64().expect("a number");
    assert!(wait <= 24 * 3_600_000);
    server.clock.forward(Duration::from_millis(wait - 1));
    request(&server, &alice, "07400 123458", 1).await.refused(429, "M_LIMIT_EXCEEDED");
    server.clock.forward(Duration::from_millis(1));
    request(&server, &alice, "07400 123458", 1).await.ok();
}

const V1: &str = "/_matrix/identity/api/v1";

async fn delegated(server: &Server, method: Method, path: &str, from: &str, body: Option<Value>) -> Reply {
    let request = server.build(method, &format!("{V1}{path}")).header("x-forwarded-for", from.to_owned());
    server.send(request.body(body.map_or_else(String::new, |body| body.to_string()))).await
}

#[tokio::test]
async fn a_homeserver_has_a_number_validated_and_publishes_nothing() {
    const HOMESERVER: &str = "192.0.2.10";
    let gateway = Gateway::start();
    let server = server(&gateway, |config| {
        config.delegation.allowed_networks = vec!["192.0.2.8/29".parse().expect("a network")];
    });
    let server = server.await;
    let alice = server.user("alice").await;
    let post = async |path: &str, from: &str, body: Value| {
        delegated(&server, Method::POST, path, from, Some(body)).await
    };
    let asked = post(REQUEST, HOMESERVER, wanted("07400 123456", 1)).await.ok();
    let (first, code) = (sid(&asked), gateway.code());
    let session = format!("/3pid/getValidated3pid?sid={first}&client_secret=secret");
    let validated = async |from: &str| delegated(&server, Method::GET, &session, from, None).await;
    validated(HOMESERVER).await.refused(400, "M_SESSION_NOT_VALIDATED");
    for from in ["192.0.2.16", "198.51.100.1", "192.0.2.10, 198.51.100.1", "::1"] {
        post(REQUEST, from, wanted("07400 123456", 2)).await.refused(403, "M_FORBIDDEN");
        post(SUBMIT, from, presented(&first, &code)).await.refused(403, "M_FORBIDDEN");
        validated(from).await.refused(403, "M_FORBIDDEN");
    }
    // An account cannot use a homeserver's session, nor a homeserver an account's.
    server.post(SUBMIT, &alice, &presented(&first, &code)).await.refused(404, "M_NO_VALID_SESSION");
    post(SUBMIT, HOMESERVER, presented(&first, &wrong(&code))).await.refused(400, "M_TOKEN_INCORRECT");
    assert_eq!(post(SUBMIT, HOMESERVER, presented(&first, &code)).await.ok(), json!({ "success": true }));
    let answer = validated(HOMESERVER).await.ok();
    assert_eq!((&answer["medium"], &answer["address"]), (&json!("msisdn"), &json!("447400123456")));
    server.get(&session, &alice).await.refused(404, "M_NO_VALID_SESSION");
    let bind = json!({ "sid": first, "client_secret": "secret", "mxid": alice.id });
    server.post("/3pid/bind", &alice, &bind).await.refused(403, "M_FORBIDDEN");
    let own = sid(&request(&server, &alice, "07400 123457", 1).await.ok());
    post(SUBMIT, HOMESERVER, presented(&own, &gateway.code())).await.refused(404, "M_NO_VALID_SESSION");
    server.post(SUBMIT, &alice, &presented(&own, &gateway.code())).await.ok();
    let own = format!("/3pid/getValidated3pid?sid={own}&client_secret=secret");
    let reply = delegated(&server, Method::GET, &own, HOMESERVER, None).await;
    reply.refused(404, "M_NO_VALID_SESSION");
    assert_eq!(find(&server, &alice, "447400123456").await, None);

    // After 24 hours the session is deleted.
    server.clock.forward(DAY);
    server.until("it is gone", async || validated(HOMESERVER).await.errcode() == "M_NO_VALID_SESSION").await;
    assert_eq!(find(&server, &alice, "447400123456").await, None);
}

#[tokio::test]
async fn a_homeservers_session_withdraws_nothing() {
    let gateway = Gateway::start();
    let server = server(&gateway, |config| {
        config.delegation.allowed_networks = vec!["192.0.2.10/32".parse().expect("a network")];
    });
    let server = server.await;
    let alice = server.user("alice").await;
    let own = sid(&request(&server, &alice, "07400 123456", 1).await.ok());
    server.post(SUBMIT, &alice, &presented(&own, &gateway.code())).await.ok();
    let bind = json!({ "sid": own, "client_secret": "secret", "mxid": alice.id });
    server.post("/3pid/bind", &alice, &bind).await.ok();
    let post = async |path: &str, body: Value| {
        delegated(&server, Method::POST, path, "192.0.2.10", Some(with(&body, "client_secret", "other")))
            .await
    };
    let delegated = sid(&post(REQUEST, wanted("07400 123456", 1)).await.ok());
    post(SUBMIT, presented(&delegated, &gateway.code())).await.ok();
    let threepid = json!({ "medium": "msisdn", "address": "447400123456" });
    let unbind = with(&with(&bind, "threepid", threepid), "sid", delegated);
    let unbind = with(&unbind, "client_secret", "other");
    server.request(Method::POST, &v2("/3pid/unbind"), None, Some(&unbind)).await.refused(403, "M_FORBIDDEN");
    assert_eq!(find(&server, &alice, "447400123456").await, Some(alice.id.clone()));
}

#[tokio::test]
async fn nothing_else_of_version_1_is_there() {
    let gateway = Gateway::start();
    for is_on in [false, true] {
        let server = server(&gateway, |config| {
            let network = || "127.0.0.0/8".parse().expect("a network");
            config.delegation.allowed_networks = is_on.then(network).into_iter().collect();
        });
        let server = server.await;
        let mut absent = vec![
            "/lookup",
            "/bulk_lookup",
            "/3pid/bind",
            "/3pid/unbind",
            "/store-invite",
            "/validate/email/requestToken",
            "/validate/email/submitToken",
            "",
        ];
        let offered = [REQUEST, SUBMIT, "/3pid/getValidated3pid"];
        if !is_on {
            absent.extend(offered);
        }
        for path in absent {
            for method in [Method::GET, Method::POST] {
                let reply = server.request(method, &format!("{V1}{path}"), None, Some(&json!({}))).await;
                reply.refused(404, "M_UNRECOGNIZED");
            }
        }
        if is_on {
            for path in &offered[..2] {
                let reply =
                    server.request(Method::POST, &format!("{V1}{path}"), None, Some(&json!({}))).await;
                reply.refused(400, "M_MISSING_PARAMS");
            }
            let path = format!("{V1}{}?sid=x", offered[2]);
            server.request(Method::GET, &path, None, None).await.refused(400, "M_MISSING_PARAMS");
        }
        let key = format!("{V1}/pubkey/ed25519:0");
        server.request(Method::GET, &key, None, None).await.ok();
    }
}

#[tokio::test]
async fn a_homeserver_has_its_own_limit() {
    let gateway = Gateway::start();
    let server = server(&gateway, |config| {
        config.delegation.allowed_networks = vec!["192.0.2.0/24".parse().expect("a network")];
        config.limits.sms_per_homeserver = Rate::new(2, 1);
        config.limits.sms_per_ip = Rate::new(1, 1);
    });
    let server = server.await;
    let ask = async |from: &str, number: &str| {
        delegated(&server, Method::POST, REQUEST, from, Some(wanted(number, 1))).await
    };
    ask("192.0.2.1", "07400 123456").await.ok();
    ask("192.0.2.1", "07400 123457").await.ok();
    ask("192.0.2.1", "07400 123458").await.refused(429, "M_LIMIT_EXCEEDED");
    ask("192.0.2.2", "07400 123458").await.ok();
}
