//! Retention: data is deleted at its age and not earlier, a wrong clock deletes nothing, and `retention status`
//! shows what is stored.

mod damaged;
mod property;

use std::time::{Duration, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    promises::only_files,
    support::{Server, User, files_with, v2},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// More than the time from one round to the next.
const ROUND: Duration = Duration::from_secs(11 * 60);

impl Server {
    /// A rule of `retention status`.
    async fn rule(&self, what: &str) -> Value {
        let status = self.control("/retention/status", &json!(null)).await;
        let mut rules = status["rules"].as_array().expect("rules").iter();
        rules.find(|rule| rule["what"] == what).unwrap_or_else(|| panic!("{what}: {status}")).clone()
    }
}

async fn knows(server: &Server, user: &User) -> bool {
    let reply = server.request(Method::GET, &v2("/account"), Some(&user.token), None).await;
    reply.status != 401
}

#[tokio::test]
async fn a_session_goes_a_day_after_it_last_changed() {
    let (server, data) = only_files(|_| {}).await;
    let alice = server.user("alice").await;
    server.request_token(&alice, "somebody@example.org", "secret", 1).await;
    let held = || files_with(&data, b"somebody@example.org").len();
    assert_ne!(held(), 0);
    server.pass(DAY - SECOND).await;
    assert_ne!(held(), 0, "not before its time");
    server.pass(SECOND + ROUND).await;
    assert_eq!(held(), 0, "neither as a row nor as bytes");
}

#[tokio::test]
async fn a_token_that_nobody_uses_goes_and_one_in_use_stays() {
    let server =
        Server::start_with(|config| config.privacy.idle_account_days = crate::support::at_least_one(5)).await;
    let (idle, busy) = (server.user("idle").await, server.user("busy").await);
    for _ in 0..4 {
        server.pass(DAY).await;
        assert!(knows(&server, &busy).await);
    }
    let tokens = async || server.rule("access tokens").await["rows"].clone();
    // It is eight o'clock, and a token's period starts at the end of the day of its last use.
    server.pass(DAY + 16 * HOUR - SECOND).await;
    assert_eq!(tokens().await, json!(2), "not before its time, whenever on its day the token was used");
    assert!(knows(&server, &busy).await);
    server.pass(SECOND + ROUND).await;
    assert_eq!(tokens().await, json!(1));
    assert!(!knows(&server, &idle).await);
    assert!(knows(&server, &busy).await);
}

#[tokio::test]
async fn consents_go_with_the_last_token_unless_something_is_published() {
    let (server, data) =
        only_files(|config| config.privacy.idle_account_days = crate::support::at_least_one(3)).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&bob, "bob@example.org", "secret").await;
    server.pass(5 * DAY).await;
    assert!(files_with(&data, alice.id.as_bytes()).is_empty(), "nothing is left of her");
    let again = server.register("bob").await;
    assert_eq!(server.get("/account", &again).await.status, 200, "what he accepted is known");
    assert_eq!(server.find(&again, "bob@example.org").await, Some(bob.id), "no binding goes for idleness");
    let again = server.register("alice").await;
    server.get("/account", &again).await.refused(403, "M_TERMS_NOT_SIGNED");
}

#[tokio::test]
async fn consents_outlast_a_logout_until_the_next_day() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let log_out = async |user: &User| server.post("/account/logout", user, &json!({})).await.ok();
    log_out(&alice).await;
    // It is eight o'clock.
    server.pass(16 * HOUR - SECOND).await;
    let again = server.register("alice").await;
    server.get("/account", &again).await.ok();
    log_out(&again).await;
    server.pass(SECOND + ROUND).await;
    let again = server.register("alice").await;
    server.get("/account", &again).await.refused(403, "M_TERMS_NOT_SIGNED");
}

#[tokio::test]
async fn after_a_jump_of_the_clock_nothing_is_deleted_until_it_is_right_or_the_operator_says_so() {
    let (server, data) = only_files(|_| {}).await;
    let alice = server.user("alice").await;
    server.invite(&alice, "somebody@example.org", "!a:b").await;
    server.round_is_done().await;
    let halted = "bindery_retention_halted 1";
    server.clock.forward(400 * DAY);
    server.until_counted(halted).await;
    assert_eq!(server.control("/retention/status", &json!(null)).await["halted"], true);
    assert_ne!(files_with(&data, b"somebody@example.org").len(), 0, "more than a month old by that clock");
    server.clock.back(400 * DAY);
    server.until_counted("bindery_retention_halted 0").await;
    server.clock.back(2 * DAY);
    server.until_counted(halted).await;
    let deleted = server.control("/retention/run", &json!(null)).await;
    assert_eq!((&deleted["tokens"], &deleted["invitations"]), (&json!(0), &json!(0)));
    server.until_counted("bindery_retention_halted 0").await;
    server.pass(33 * DAY + ROUND).await;
    assert!(files_with(&data, b"somebody@example.org").is_empty(), "rounds go on");
    assert!(knows(&server, &alice).await);
}

#[tokio::test]
async fn the_operator_sees_what_is_held_and_when_it_goes() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, "alice@example.org", "secret").await;
    server.invite(&alice, "somebody@example.org", "!a:b").await;
    let now = bindery::domain::clock::Clock::now(&*server.clock).0;
    let copy = std::fs::File::create(server.config.data_dir.join("bindery.redb.schema-2")).expect("a copy");
    copy.set_modified(UNIX_EPOCH + Duration::from_millis(now)).expect("its time");
    let rule = async |what: &str| server.rule(what).await;
    assert_eq!(rule("bindings").await["rows"], 1);
    let sessions = rule("validation sessions").await;
    assert_eq!(sessions["rule"], "one day after they last changed");
    assert_eq!((&sessions["rows"], &sessions["oldest"]), (&json!(1), &json!(now)));
    assert_eq!(sessions["goes"], json!(now + DAY.as_millis() as u64));
    let goes = |after: Duration| json!(now + after.as_millis() as u64);
    assert_eq!(rule("invitations and their keys").await["goes"], goes(30 * DAY));
    assert_eq!(rule("access tokens").await["goes"], goes(365 * DAY + 16 * HOUR), "the day counts to its end");
    let copies = rule("copies of the database from before a migration or restore").await;
    assert_eq!(
        (&copies["rows"], &copies["rule"], &copies["goes"]),
        (&json!(1), &json!("7 days"), &goes(7 * DAY))
    );
    assert_eq!(rule("counts of invitation mails").await["rows"], 1);
    assert_eq!(rule("counts of messages to phones").await["rows"], 0);
    let peppers = rule("previous peppers").await;
    assert_eq!(peppers["rule"], "10 minutes after the new pepper came into use");
    let visits = rule("visits to people's own pages").await;
    assert_eq!(visits["rule"], "one hour for the link, 30 minutes for the page");
    let status = server.control("/retention/status", &json!(null)).await;
    assert!(!status.to_string().contains("example.org"), "it names nobody: {status}");
}

#[tokio::test]
async fn audit_entries_go_after_a_year() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let copy = server.request(Method::GET, "/_bindery/v1/account/export", Some(&alice.token), None).await;
    assert_eq!(copy.status, 200);
    let about_her = json!({ "since": 0, "about": { "mxid": alice.id } });
    server.pass(365 * DAY - ROUND).await;
    assert_eq!(server.control("/audit", &about_her).await.as_array().expect("entries").len(), 1);
    server.pass(2 * ROUND).await;
    assert_eq!(server.control("/audit", &about_her).await, json!([]));
}

#[tokio::test]
async fn a_start_with_a_wrong_clock_deletes_nothing() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.round_is_done().await;
    server.clock.back(2 * DAY);
    let server = server.restart(|_| {});
    server.until_counted("bindery_retention_halted 1").await;
    assert!(knows(&server, &alice).await);
    // A machine without a battery-backed clock gets the time again days after it was turned off.
    server.clock.forward(7 * DAY);
    server.until_counted("bindery_retention_halted 0").await;
    server.clock.forward(40 * DAY);
    let server = server.restart(|_| {});
    server.until_counted("bindery_retention_halted 1").await;
    assert!(knows(&server, &alice).await, "retention does not trust so large a jump of the clock");
}

#[tokio::test]
async fn a_token_that_is_used_while_the_clock_is_wrong_is_not_idle() {
    let idle = crate::support::at_least_one(5);
    let server = Server::start_with(|config| config.privacy.idle_account_days = idle).await;
    let alice = server.user("alice").await;
    server.round_is_done().await;
    for wrong in ["back", "ahead"] {
        let turn = |back: bool| match back {
            true => server.clock.back(400 * DAY),
            false => server.clock.forward(400 * DAY),
        };
        turn(wrong == "back");
        server.until_counted("bindery_retention_halted 1").await;
        assert!(knows(&server, &alice).await);
        turn(wrong != "back");
        server.until_counted("bindery_retention_halted 0").await;
        server.clock.forward(ROUND);
        server.round_is_done().await;
        server.control("/retention/run", &json!(null)).await;
        assert!(knows(&server, &alice).await, "the clock was wrong: {wrong}");
    }
    server.pass(7 * DAY).await;
    assert!(!knows(&server, &alice).await, "it goes five days after its last use");
}

#[tokio::test]
async fn a_rewrite_that_fails_for_too_long_is_an_alarm() {
    let (server, data) = only_files(|config| {
        config.privacy.deleted_binding_days = crate::support::at_least_one(3);
        config.backup.keep_days = crate::support::at_least_one(2);
    })
    .await;
    let (leaver, stayer) = (server.user("leaver").await, server.user("stayer").await);
    server.round_is_done().await;
    // The path of the new file of a rewrite.
    let in_the_way = data.join("bindery.redb.new");
    std::fs::create_dir(&in_the_way).expect("a directory");
    server.request(Method::DELETE, "/_bindery/v1/account", Some(&leaver.token), None).await.ok();
    for day in 0..4 {
        assert!(
            day == 3 || server.metrics().await.contains("bindery_rewrite_overdue 0"),
            "not yet on day {day}"
        );
        // The round deletes it, although the rest of the round fails.
        server.request_token(&stayer, &format!("day{day}@example.org"), "secret", 1).await;
        server.clock.forward(DAY);
        server.until("a round", async || server.rule("validation sessions").await["rows"] == 0).await;
    }
    server.until_counted("bindery_rewrite_overdue 1").await;
    std::fs::remove_dir(in_the_way).expect("removed");
    server.clock.forward(ROUND);
    server.until_counted("bindery_rewrite_overdue 0").await;
    assert_eq!(files_with(&data, leaver.id.as_bytes()).len(), 0);
}

#[tokio::test]
async fn the_operator_hears_why_a_command_failed() {
    let mut server = Server::start().await;
    // How many there are cannot be counted, either.
    server.leaves_jobs();
    // It has the name of an expired log, and is none.
    let folder = server.config.data_dir.join("logs/lookup-2020-01-01.jsonl");
    std::fs::create_dir_all(&folder).expect("made");
    let (status, answer) = server.control_text("/retention/run", "null".to_owned()).await;
    let error = answer["error"].as_str().expect("a message");
    assert!(status == 500 && error.contains("a log file cannot be read or removed"), "{status} {error}");
}
