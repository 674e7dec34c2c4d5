//! A clock that was ahead and has been put back: nothing waits until the wrong time comes again.

use std::time::Duration;

use bindery::{
    config::SmtpSecurity,
    domain::{
        audit::{By, Deed, Entry},
        retention::AUDIT,
    },
    ops::retention::delete,
};
use serde_json::json;

use crate::support::{
    Server, TestClock,
    core::core_in_memory,
    smtp::{Mood, Relay, Stage},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn queued_mails_are_sent_within_seconds() {
    for (ahead, restarts) in [(5 * HOUR, false), (8 * DAY, false), (8 * DAY, true)] {
        let relay = Relay::start(SmtpSecurity::None);
        let server = Server::start_with(|config| relay.configure(config)).await;
        let alice = server.user("alice").await;
        server.clock.forward(ahead);
        relay.set(Mood::Drop(Stage::Greeting));
        server.invite(&alice, "carol@example.org", "!room:hs.test").await;
        server.until_counted("bindery_outbox_total{kind=\"invitation_mail\",outcome=\"waiting\"} 1").await;
        relay.set(Mood::Accept);
        server.clock.back(ahead);
        let server = if restarts { server.restart(|_| {}) } else { server };
        // After a jump of more than a day, the log tells the operator to run this.
        server.control("/retention/run", &json!(null)).await;
        // The relay's backoff may begin only after the clock was put back, and lasts five seconds.
        let delivered = "bindery_outbox_total{kind=\"invitation_mail\",outcome=\"delivered\"} 1";
        let is_delivered = async || {
            server.clock.forward(Duration::from_millis(100));
            server.metrics().await.lines().any(|counted| counted == delivered)
        };
        server.until(delivered, is_delivered).await;
        assert_eq!(relay.mails()[0].to, ["carol@example.org"]);
    }
}

#[tokio::test]
async fn a_session_dated_ahead_by_a_wrong_clock_has_expired() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.clock.forward(10 * DAY);
    let alice_then = server.user("alice").await;
    let sid = server.validate(&alice_then, "alice@example.org", "secret").await;
    server.clock.back(10 * DAY);
    let body = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id });
    server.post("/3pid/bind", &alice, &body).await.refused(400, "M_SESSION_EXPIRED");
}

#[tokio::test]
async fn an_audit_entry_dated_ahead_is_deleted_after_a_year() {
    let clock = TestClock::new();
    let core = core_in_memory(clock.clone()).await;
    let at = core.clock.now().after(300 * DAY);
    let entry = Entry { at, deed: Deed::Export, by: By::Owner, subject: None };
    core.store.write(move |tables| tables.put_audit(&entry)).await.expect("written");
    assert_eq!(delete(&core).await.expect("deleted").audit, 0);
    clock.forward(AUDIT + HOUR);
    assert_eq!(delete(&core).await.expect("deleted").audit, 1);
}
