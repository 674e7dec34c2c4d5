//! Mails of the outbox: which failures end one, and that no recipient and no kind of mail holds up another.

use std::time::Duration;

use bindery::config::SmtpSecurity;
use serde_json::json;

use super::{ADDRESS, HOUR, ROOM, counted};
use crate::support::{
    Server, User, at_least_one,
    smtp::{Mood, Relay, Stage, server_behind},
};

#[tokio::test]
async fn a_mail_waits_for_a_relay_that_is_gone_and_not_for_one_that_refuses() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = Server::start_with(|config| relay.configure(config)).await;
    let alice = server.user("alice").await;
    relay.set(Mood::RefuseWith(Stage::Recipient, "550 5.1.1"));
    server.invite(&alice, "nobody@example.org", ROOM).await;
    server.until_counted(&counted("invitation_mail", "refused", 1)).await;
    for (round, mood) in
        [Mood::Refuse(Stage::Recipient, 451), Mood::Drop(Stage::Message)].into_iter().enumerate()
    {
        let round = u32::try_from(round).expect("small") + 1;
        relay.set(mood);
        server.invite(&alice, ADDRESS, ROOM).await;
        server.until_counted(&counted("invitation_mail", "waiting", round)).await;
        relay.set(Mood::Accept);
        server.clock.forward(Duration::from_secs(5));
        server.until_counted(&counted("invitation_mail", "delivered", round)).await;
    }
    let mails = relay.mails();
    assert_eq!(mails.iter().filter(|mail| mail.to == [ADDRESS]).count(), 2);
    assert!(mails.iter().all(|mail| mail.to != ["nobody@example.org"]));
}

/// Invites somebody in each of these moods of the relay: the mail ends, or is retried.
async fn ends_or_waits(moods: impl IntoIterator<Item = (Mood, bool)>) {
    let relay = Relay::start(SmtpSecurity::None);
    let mut server = server_behind(&relay, |_| {}).await;
    server.leaves_jobs();
    let alice = server.user("alice").await;
    let mut counts = [0, 0];
    for (mood, is_final) in moods {
        relay.set(mood);
        server.invite(&alice, ADDRESS, ROOM).await;
        counts[usize::from(is_final)] += 1;
        let outcome = if is_final { "refused" } else { "waiting" };
        server.until_counted(&counted("invitation_mail", outcome, counts[usize::from(is_final)])).await;
    }
    assert!(relay.mails().is_empty());
}

#[tokio::test]
async fn only_a_mailbox_that_does_not_exist_ends_a_mail() {
    let moods = [
        (Stage::Recipient, "550 5.1.1", true),
        (Stage::Recipient, "553 5.1.3", true),
        (Stage::Recipient, "556 5.1.10", true),
        (Stage::Message, "550 5.1.1", true),
        (Stage::Recipient, "550", true),
        (Stage::Recipient, "551", true),
        (Stage::Recipient, "553", true),
        // A quota, a policy, a required password: problems of this server, or temporary ones.
        (Stage::Recipient, "550 5.7.1", false),
        (Stage::Recipient, "550 5.4.5", false),
        (Stage::Recipient, "552 5.2.2", false),
        (Stage::Recipient, "550 5.1.8", false),
        (Stage::Recipient, "554", false),
        (Stage::Recipient, "450 5.1.1", false),
        (Stage::Sender, "550", false),
        (Stage::Sender, "553 5.1.1", false),
        (Stage::Message, "550", false),
        (Stage::Message, "554 5.7.1", false),
    ];
    ends_or_waits(moods.map(|(stage, words, is_final)| (Mood::RefuseWith(stage, words), is_final))).await;
}

#[tokio::test]
async fn the_code_of_a_reply_counts_whatever_its_text() {
    let lines = [
        (&b"550"[..], true),
        (b"550 5.1.1 inconnu \xe0 cette adresse", true),
        (b"550-5.1.1 \xc4\xe3\xba\xc3\r\n550 5.1.1 \xff", true),
        (b"571 5.7.1 blocked", false),
        (b"421 \xe9", false),
        (b"who is that?", false),
    ];
    ends_or_waits(lines.map(|(line, is_final)| (Mood::Say(Stage::Recipient, line), is_final))).await;
}

#[tokio::test]
async fn what_the_relay_said_counts_even_if_it_says_nothing_to_quit() {
    let relay = Relay::start_with(SmtpSecurity::None, |offers| offers.ignores_quit = true);
    let server = server_behind(&relay, |config| config.mail.smtp.timeout_seconds = at_least_one(2)).await;
    let alice = server.user("alice").await;
    relay.set(Mood::RefuseWith(Stage::Recipient, "550 5.1.1"));
    server.invite(&alice, ADDRESS, ROOM).await;
    server.until_counted(&counted("invitation_mail", "refused", 1)).await;
}

#[tokio::test]
async fn a_mail_that_cannot_be_sent_holds_up_no_other() {
    const MUTE: &str = "mute@example.org";
    let relay = Relay::start_with(SmtpSecurity::None, |offers| offers.smtputf8 = false);
    let server = Server::start_with(|config| {
        relay.configure(config);
        config.mail.smtp.timeout_seconds = at_least_one(1);
    });
    let server = server.await;
    let alice = server.user("alice").await;
    server.invite(&alice, "jürgen@example.org", ROOM).await;
    server.until_counted(&counted("invitation_mail", "refused", 1)).await;
    // While the relay is down, rows that were not tried stay unchanged.
    relay.set(Mood::Drop(Stage::Greeting));
    server.invite(&alice, MUTE, ROOM).await;
    server.until_counted(&counted("invitation_mail", "waiting", 1)).await;
    server.invite(&alice, ADDRESS, ROOM).await;
    server.clock.forward(Duration::from_secs(5));
    server.until_counted(&counted("invitation_mail", "waiting", 2)).await;
    // If the relay times out for one recipient, its domain waits for five seconds. Then the next row is sent.
    relay.set(Mood::SilentTo(MUTE));
    server.clock.forward(Duration::from_secs(10));
    server.until_counted(&counted("invitation_mail", "waiting", 3)).await;
    server.clock.forward(Duration::from_secs(5));
    relay.until(|seen| seen.mails.iter().any(|mail| mail.to == [ADDRESS])).await;
    server.until_counted(&counted("invitation_mail", "delivered", 1)).await;
    relay.set(Mood::Accept);
    server.clock.forward(HOUR);
    server.until_counted(&counted("invitation_mail", "delivered", 2)).await;
}

/// A server behind `relay` with alice, who has validated an address: its notice is queued when she publishes it.
async fn notifying(relay: &Relay, timeout_seconds: u32) -> (Server, User, String) {
    let server = server_behind(relay, |config| {
        config.privacy.notify_owners = true;
        config.mail.smtp.timeout_seconds = at_least_one(timeout_seconds);
        config.mail.smtp.max_connections = at_least_one(4);
    });
    let server = server.await;
    let alice = server.user("alice").await;
    let body = json!({ "email": ADDRESS, "client_secret": "secret", "send_attempt": 1 });
    let reply = server.post("/validate/email/requestToken", &alice, &body).await.ok();
    let sid = reply["sid"].as_str().expect("a sid").to_owned();
    let token = relay.mails()[0].mail().token();
    let body = json!({ "sid": sid, "client_secret": "secret", "token": token });
    server.post("/validate/email/submitToken", &alice, &body).await.ok();
    (server, alice, sid)
}

async fn publish(server: &Server, alice: &User, sid: &str) {
    let body = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id });
    server.post("/3pid/bind", alice, &body).await.ok();
}

/// Sends a mail to `count` domains, so that they are known to be quick.
async fn make_known(server: &Server, alice: &User, count: u32) {
    for number in 0..count {
        server.invite(alice, &format!("known@example{number}.org"), ROOM).await;
    }
    server.until_counted(&counted("invitation_mail", "delivered", count)).await;
}

#[tokio::test]
async fn mails_of_the_outbox_use_the_connections_and_leave_one_to_owners_and_one_to_requests() {
    let relay = Relay::start(SmtpSecurity::None);
    let (server, alice, sid) = notifying(&relay, 20).await;
    make_known(&server, &alice, 6).await;
    relay.set(Mood::Hold);
    for number in 0..6 {
        server.invite(&alice, &format!("invited@example{number}.org"), ROOM).await;
    }
    relay.until(|seen| seen.held == 2).await;
    publish(&server, &alice, &sid).await;
    relay.until(|seen| seen.held == 3).await;
    let body = json!({ "email": "asked@example.org", "client_secret": "other", "send_attempt": 1 });
    let asked = server.post("/validate/email/requestToken", &alice, &body);
    let released = async {
        relay.until(|seen| seen.held == 4).await;
        let recipients = |part| {
            relay.seen(|seen| {
                seen.commands.iter().filter(|(_, one)| one.starts_with("RCPT") && one.contains(part)).count()
            })
        };
        // She was asked to validate her address before.
        assert_eq!((recipients("invited@"), recipients(ADDRESS), recipients("asked@")), (2, 2, 1));
        relay.set(Mood::Accept);
    };
    tokio::join!(asked, released).0.ok();
    server.until_counted(&counted("invitation_mail", "delivered", 12)).await;
    server.until_counted(&counted("owner_notice", "delivered", 1)).await;
    assert!(relay.seen(|seen| seen.connections) <= 4);
}

#[tokio::test]
async fn recipients_that_make_the_relay_hang_up_delay_others_by_five_seconds_at_most() {
    let relay = Relay::start(SmtpSecurity::None);
    let (mut server, alice, sid) = notifying(&relay, 20).await;
    server.leaves_jobs();
    make_known(&server, &alice, 3).await;
    relay.set(Mood::DropAt("evil"));
    for number in 0..3 {
        server.invite(&alice, &format!("a@evil{number}.test"), ROOM).await;
    }
    server.until_counted(&counted("invitation_mail", "waiting", 3)).await;
    // Now it seems that the relay is broken.
    for number in 3..20 {
        server.invite(&alice, &format!("a@evil{number}.test"), ROOM).await;
    }
    for number in 0..3 {
        server.invite(&alice, &format!("a@example{number}.org"), ROOM).await;
    }
    publish(&server, &alice, &sid).await;
    server.clock.forward(Duration::from_secs(5));
    server.until_counted(&counted("invitation_mail", "delivered", 6)).await;
    server.until_counted(&counted("owner_notice", "delivered", 1)).await;
}

#[tokio::test]
async fn recipients_about_whom_the_relay_is_slow_hold_up_no_owner() {
    let relay = Relay::start(SmtpSecurity::None);
    let (mut server, alice, sid) = notifying(&relay, 5).await;
    server.leaves_jobs();
    relay.set(Mood::SilentTo("evil"));
    for number in 0..10 {
        server.invite(&alice, &format!("a@evil{number}.test"), ROOM).await;
    }
    publish(&server, &alice, &sid).await;
    server.until_counted(&counted("owner_notice", "delivered", 1)).await;
    // Each takes five seconds, one at a time: this was before the third.
    let waiting = |count| counted("invitation_mail", "waiting", count);
    let metrics = server.metrics().await;
    assert!((3..10).all(|count| !metrics.contains(&waiting(count))), "{metrics}");
}

#[tokio::test]
async fn an_invitation_and_a_notice_pass_while_many_domains_are_slow() {
    let relay = Relay::start(SmtpSecurity::None);
    let (mut server, alice, sid) = notifying(&relay, 2).await;
    server.leaves_jobs();
    make_known(&server, &alice, 2).await;
    relay.set(Mood::SilentTo("evil"));
    for number in 0..20 {
        server.invite(&alice, &format!("a@evil{number}.test"), ROOM).await;
    }
    // Nothing is known about these domains yet. They have one connection, until three of them were silent.
    relay.until(|seen| seen.held == 1).await;
    server.invite(&alice, "honest@example0.org", ROOM).await;
    server.until_counted(&counted("invitation_mail", "delivered", 3)).await;
    server.until_counted(&counted("invitation_mail", "waiting", 3)).await;
    // Now these three are slow, and the others are still new: all of them have one connection.
    server.clock.forward(Duration::from_secs(5));
    relay.until(|seen| seen.held == 1).await;
    publish(&server, &alice, &sid).await;
    server.invite(&alice, "honest@example1.org", ROOM).await;
    server.until_counted(&counted("invitation_mail", "delivered", 4)).await;
    server.until_counted(&counted("owner_notice", "delivered", 1)).await;
    assert!(relay.seen(|seen| seen.most_held) <= 1, "one connection at a time");
}
