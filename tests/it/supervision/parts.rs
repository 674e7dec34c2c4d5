//! Each kind of part that dies ends the program with status 1 and a line that names it.

use std::{
    process::Command,
    sync::mpsc,
    task::{Context, Waker},
};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Place, Run, answers};
use crate::support::{
    accept_terms, client,
    jobs::OUTBOX,
    storage::{Frozen, open},
    v2,
};

/// Debug builds have a part panic that this variable names.
const PANIC_IN: &str = "PANIC_IN_BINDERY_PART";

#[test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds have parts that panic on request")]
fn any_part_that_panics_ends_the_program_with_its_name() {
    let place = Place::new();
    // With the notice published, the writer has nothing to do before everything runs.
    let mut first = Run::start(place.command());
    first.base();
    first.stop();
    let tasks = [
        "outbox",
        "links to own pages",
        "retention",
        "pepper rotation",
        "sums of refusals",
        "lookup budgets",
    ];
    let threads = ["lookup log", "access log", "store writer", "HTTP worker", "signals"];
    let servers = ["HTTP server", "control socket", "metrics listener", "health check"];
    for part in tasks.into_iter().chain(threads).chain(servers) {
        let mut command = place.command();
        command.env(PANIC_IN, part).env("BINDERY_HTTP__METRICS_LISTEN", "['127.0.0.1:0']");
        let (status, log) = Run::start(command).end();
        assert_eq!(status.code(), Some(1), "{part}:\n{log}");
        assert!(log.contains("a panic: this is a bug"), "{part}:\n{log}");
        assert!(log.contains("stopping:"), "{part}: it drains:\n{log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("bindery: ") && last.contains(&format!("'{part}'")), "{part}:\n{log}");
    }
    place.hear("READY=1");
    let mut whole = Run::start(place.command());
    whole.base();
    whole.stop();
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds have parts that panic on request")]
fn nothing_is_ready_without_its_listeners() {
    let place = Place::new();
    let mut command = place.command();
    command.env(PANIC_IN, "HTTP server");
    let (status, log) = Run::start(command).end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(!place.has_heard("READY=1") && !log.contains("serving"), "{log}");
}

#[tokio::test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds have parts that panic on request")]
async fn a_worker_of_the_outbox_that_panics_ends_the_program() {
    let place = Place::new();
    let mut command = place.command();
    command.env(PANIC_IN, "outbox worker");
    let mut run = Run::start(command);
    invite_bob(&place, &run.base()).await;
    let (status, log) = run.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("\"outbox worker\"") && log.contains("'outbox' ended"), "{log}");
}

/// Strangers choose what a message says, so this must not end the server at every start.
#[tokio::test]
#[cfg_attr(not(debug_assertions), ignore = "only debug builds have parts that panic on request")]
async fn a_message_that_makes_sending_panic_is_retried_later() {
    let place = Place::new();
    let mut command = place.command();
    command.env(PANIC_IN, "sending a message");
    let mut run = Run::start(command);
    let base = run.base();
    invite_bob(&place, &base).await;
    run.line("a message was not sent, because of a panic");
    assert!(answers(&base).await);
    run.stop();
    let mut status = Command::new(env!("CARGO_BIN_EXE_bindery"));
    status.args(["retention", "status", "--json", "--config"]).arg(&place.config);
    let status: Value = serde_json::from_slice(&status.output().expect("it runs").stdout).expect("JSON");
    let rules = status["rules"].as_array().expect("rules");
    let queued = rules.iter().find(|rule| rule["what"] == OUTBOX).expect("the outbox");
    assert_eq!(queued["rows"], 1, "it is still queued");
}

/// Queues an invitation mail.
async fn invite_bob(place: &Place, base: &str) {
    let (user, homeserver) = (format!("@alice:{}", place.homeserver.name()), &place.homeserver);
    let registration = json!({
        "access_token": homeserver.openid_token(&user), "token_type": "Bearer",
        "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let post = async |path: &str, token: &str, body: Value| {
        let request = client().request(Method::POST, format!("{base}{}", v2(path))).bearer_auth(token);
        let reply = request.body(body.to_string()).send().await.expect("an answer");
        serde_json::from_str::<Value>(&reply.text().await.expect("a body")).expect("JSON")
    };
    let reply = post("/account/register", "none", registration).await;
    let token = reply["token"].as_str().expect("a token");
    accept_terms(base, token).await;
    let invitation = json!({
        "medium": "email", "address": "bob@example.org", "room_id": "!room:example.org", "sender": user,
    });
    let reply = post("/store-invite", token, invitation).await;
    assert!(reply["token"].is_string(), "{reply}");
}

#[tokio::test]
async fn a_writer_that_panics_outside_its_catch_is_noticed() {
    struct PanicsWhenDropped;
    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "on purpose");
        }
    }
    let store = open(Frozen::default());
    let (release, released) = mpsc::channel::<()>();
    let mut context = Context::from_waker(Waker::noop());
    // The writer waits in this one until the other is in its queue.
    let mut first = Box::pin(store.write(move |_| Ok(released.recv().is_err())));
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut second = Box::pin(store.write(|_| Ok(PanicsWhenDropped)));
    assert!(second.as_mut().poll(&mut context).is_pending());
    // The caller has gone away, so the writer itself drops the answer.
    drop(second);
    drop(release);
    store.failed().await;
    assert!(store.write(|_| Ok(())).await.is_err() && !store.check_writer().await);
}

#[test]
fn too_few_descriptors_end_the_start_with_a_sentence() {
    let place = Place::new();
    let (status, log) = Run::start(place.shell("ulimit -n 24; exec \"$0\" \"$@\"")).end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("the limit of open files is 24") && log.contains("LimitNOFILE="), "{log}");
    assert!(!place.has_heard("READY=1"), "{log}");
    // What the sentence asks for is enough.
    let enough = log.split("at least ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a number");
    let mut run = Run::start(place.shell(&format!("ulimit -n {enough}; exec \"$0\" \"$@\"")));
    run.base();
    place.hear("READY=1");
    run.stop();
}
