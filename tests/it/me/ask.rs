//! Asking for the link: the same answer whatever is known, and a message only if something is.

use std::time::{Duration, Instant};

use bindery::{
    config::{Config, SmtpSecurity},
    domain::bucket::Rate,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{link_in, shows, visits};
use crate::support::{
    Reply, Server, User, at_least_one,
    gateway::Gateway,
    smtp::{Mood, Relay, Stage},
    words,
};

const KNOWN: &str = "alice@example.org";

/// What somebody can see of an answer, but for the time.
fn visible(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let headers = reply.headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
    (reply.status.as_u16(), headers, reply.text.clone())
}

fn unlimited(config: &mut Config) {
    let rate = Rate::new(10_000, 10_000);
    config.limits.visit_per_ip = rate;
    config.limits.visit_per_address = rate;
}

#[tokio::test]
async fn the_answer_is_the_same_whatever_is_known() {
    let gateway = Gateway::start();
    let server = Server::start_with(|config| {
        gateway.configure(config);
        config.sms.countries = vec!["GB".to_owned()];
        config.limits.visit_per_ip = Rate::new(1000, 1000);
        config.limits.visit_per_address = Rate::new(1, 1);
    })
    .await;
    let alice = server.user("alice").await;
    server.bind(&alice, KNOWN, "secret").await;
    server.bind(&alice, "silent@example.org", "secret").await;
    let guest = server.guest("silent@example.org").await;
    assert_eq!(server.act(&guest, "/me/suppress", &[]).await.status, 303);
    // It has used up what there is for its address, too.
    server.clock.forward(Duration::from_secs(3600));
    let before = server.mails().len();

    let expected = visible(&server.ask_for("nobody@example.org").await);
    for (address, what) in [
        (KNOWN, "known"),
        (KNOWN, "known, and asked for a second time"),
        ("ALICE@Example.ORG ", "known, spelt otherwise"),
        ("silent@example.org", "suppressed"),
        ("a@@b", "malformed"),
        ("alice@exa mple.org", "malformed"),
        ("\"alice\"@example.org", "malformed"),
        ("+44 7400 123456", "a number that nothing is known of"),
        ("+44 nonsense", "no number"),
        ("+999999999999", "no number"),
        ("+81 90 1234 5678", "a number in a country that is not served"),
    ] {
        assert_eq!(visible(&server.ask_for(address).await), expected, "{what}");
    }
    server.until_counted(&visits("sent", 2)).await;
    // nobody, and the number.
    server.until_counted(&visits("nothing_stored", 2)).await;
    server.until_counted(&visits("suppressed", 1)).await;
    server.until_counted(&visits("not_served", 1)).await;
    server.until_counted(&visits("limited", 2)).await;
    let mails: Vec<_> = server.mails().into_iter().skip(before).map(|mail| mail.to).collect();
    assert_eq!(mails, [KNOWN]);
    assert_eq!(gateway.told().len(), 0);
}

#[tokio::test]
async fn whatever_is_stored_is_enough_for_a_link() {
    let server = Server::start_with(unlimited).await;
    let alice = server.user("alice").await;
    server.request_token(&alice, "asked@example.org", "secret", 1).await;
    server.invite(&alice, "invited@example.org", "!room:hs.test").await;
    server.bind(&alice, KNOWN, "secret").await;
    for address in ["asked@example.org", "invited@example.org", KNOWN] {
        server.guest(address).await;
    }
}

#[tokio::test]
async fn what_can_be_no_address_is_named_on_the_page() {
    let server = Server::start_with(unlimited).await;
    let long = format!("{}@example.org", "a".repeat(600));
    for typed in ["", "alice", "07400 123456", "<script>", &long] {
        let reply = server.ask_for(typed).await;
        shows(&reply, 400, "unreadable");
        assert!(reply.text.contains("role=\"alert\"") && reply.text.contains("aria-invalid=\"true\""));
        assert!(reply.text.contains("href=\"#address\""), "the summary leads to the field");
        assert!(
            reply.text.contains("aria-describedby=\"hint problem\"") && reply.text.contains("id=\"problem\"")
        );
        let title = format!("<title>{}", words::text("en", "me", "problem"));
        assert!(reply.text.contains(&title), "{}", reply.text);
    }
    for body in ["", "\u{0}", "{", "address", "[]", "other=1", "address=%ff%fe"] {
        let request = server.build(Method::POST, "/me").body(body);
        shows(&server.send(request).await, 400, "unreadable");
    }
    let huge = server.build(Method::POST, "/me").body("a".repeat(100_000));
    server.send(huge).await.refused(413, "M_TOO_LARGE");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn too_many_from_one_network_hear_so_and_too_many_to_one_address_do_not() {
    let server = Server::start_with(|config| {
        config.limits.visit_per_ip = Rate::new(5, 1);
        config.limits.visit_per_address = Rate::new(2, 1);
    })
    .await;
    let alice = server.user("alice").await;
    server.bind(&alice, KNOWN, "secret").await;
    for _ in 0..5 {
        shows(&server.ask_for(KNOWN).await, 200, "me_sent");
    }
    server.until_counted(&visits("sent", 2)).await;
    server.until_counted(&visits("limited", 3)).await;
    shows(&server.ask_for(KNOWN).await, 429, "me_busy");
    shows(&server.ask_for("nobody@example.org").await, 429, "me_busy");
    server.clock.forward(Duration::from_secs(3600));
    shows(&server.ask_for(KNOWN).await, 200, "me_sent");
    server.until_counted(&visits("sent", 3)).await;
}

#[tokio::test]
async fn a_full_queue_shows_in_nothing_but_a_metric() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = Server::start_with(|config| {
        relay.configure(config);
        unlimited(config);
        config.mail.smtp.timeout_seconds = at_least_one(3);
    })
    .await;
    let alice = server.user("alice").await;
    let body = json!({ "email": KNOWN, "client_secret": "secret", "send_attempt": 1 });
    server.post("/validate/email/requestToken", &alice, &body).await.ok();
    relay.set(Mood::Silent(Stage::Greeting));
    let expected = visible(&server.ask_for(KNOWN).await);
    let mut is_full = false;
    for _ in 0..40 {
        let asked = (0..50).map(|_| server.ask_for(KNOWN));
        for reply in futures_util::future::join_all(asked).await {
            assert_eq!(visible(&reply), expected);
        }
        is_full = server.metrics().await.contains("outcome=\"queue_full\"");
        if is_full {
            break;
        }
    }
    assert!(is_full, "{}", server.metrics().await);
}

/// A server behind `relay` that has asked the owners of these addresses to confirm them.
async fn knowing(relay: &Relay, addresses: &[&str]) -> Server {
    let server = Server::start_with(|config| {
        relay.configure(config);
        unlimited(config);
        config.mail.smtp.timeout_seconds = at_least_one(5);
    })
    .await;
    let alice = server.user("alice").await;
    for address in addresses {
        server.request_token(&alice, address, "secret", 1).await;
    }
    server
}

fn has_link(relay: &Relay, to: &str) -> bool {
    relay.mails().iter().any(|mail| mail.to == [to] && mail.mail().text.contains("/me/visit/"))
}

#[tokio::test]
async fn a_link_that_the_relay_did_not_take_for_now_is_sent_again() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = knowing(&relay, &[KNOWN]).await;
    for (round, mood) in
        [Mood::Refuse(Stage::Recipient, 451), Mood::Drop(Stage::Greeting)].into_iter().enumerate()
    {
        let round = u32::try_from(round).expect("small") + 1;
        relay.set(mood);
        shows(&server.ask_for(KNOWN).await, 200, "me_sent");
        server.until_counted(&visits("waiting", round)).await;
        relay.set(Mood::Accept);
        server.clock.forward(Duration::from_secs(60));
        server.until_counted(&visits("sent", round)).await;
    }
    assert!(has_link(&relay, KNOWN));
    relay.set(Mood::RefuseWith(Stage::Recipient, "550 5.1.1"));
    shows(&server.ask_for(KNOWN).await, 200, "me_sent");
    server.until_counted(&visits("not_sent", 1)).await;
}

#[tokio::test]
async fn a_domain_about_which_the_relay_is_slow_holds_one_lane_of_the_links() {
    let relay = Relay::start(SmtpSecurity::None);
    let slow = ["a@slow.test", "b@slow.test", "c@mail.slow.test", "d@slow.test"];
    let server = knowing(&relay, &[&slow[..], &[KNOWN]].concat()).await;
    relay.set(Mood::SilentTo("slow"));
    for address in slow.into_iter().chain([KNOWN]) {
        shows(&server.ask_for(address).await, 200, "me_sent");
    }
    relay.until(|seen| seen.mails.len() == slow.len() + 2).await;
    assert!(has_link(&relay, KNOWN));
    assert_eq!(relay.seen(|seen| seen.most_held), 1, "of the slow domain");
    relay.set(Mood::Accept);
}

#[tokio::test]
async fn a_link_that_is_not_sent_waits_for_the_places_of_one_that_is() {
    const SILENT: &str = "silent@example.org";
    const SLOW: &str = "a@slow.test";
    let relay = Relay::start(SmtpSecurity::None);
    let server = Server::start_with(|config| {
        relay.configure(config);
        unlimited(config);
        config.mail.smtp.timeout_seconds = at_least_one(4);
        // One of them is for links.
        config.mail.smtp.max_connections = at_least_one(2);
    })
    .await;
    let alice = server.user("alice").await;
    for address in [SLOW, KNOWN, SILENT] {
        server.request_token(&alice, address, "secret", 1).await;
    }
    shows(&server.ask_for(SILENT).await, 200, "me_sent");
    server.until_counted(&visits("sent", 1)).await;
    let mails = relay.mails();
    let link = link_in(&mails.last().expect("a mail").mail().text);
    let guest = server.follow(&link).await;
    assert_eq!(server.act(&guest, "/me/suppress", &[("sure", "yes")]).await.status, 303);
    let outcomes = [
        (KNOWN, visits("sent", 3)),
        ("nobody@example.org", visits("nothing_stored", 1)),
        (SILENT, visits("suppressed", 1)),
    ];
    for (round, (address, outcome)) in (0..).zip(outcomes) {
        relay.set(Mood::SilentTo("slow"));
        shows(&server.ask_for(SLOW).await, 200, "me_sent");
        relay.until(|seen| seen.held == 1).await;
        shows(&server.ask_for(address).await, 200, "me_sent");
        server.until_counted(&visits("waiting", 2 * round + 2)).await;
        let metrics = server.metrics().await;
        assert!(!metrics.lines().any(|line| line == outcome), "{address} must wait: {metrics}");
        relay.set(Mood::Accept);
        server.clock.forward(Duration::from_secs(60));
        server.until_counted(&outcome).await;
        let sent = if round == 0 { 3 } else { 3 + round };
        server.until_counted(&visits("sent", sent)).await;
    }
}

#[tokio::test]
async fn a_number_that_gets_no_link_keeps_its_place_as_long_as_a_message() {
    let gateway = Gateway::start();
    let server = Server::start_with(|config| {
        gateway.configure(config);
        unlimited(config);
    })
    .await;
    let begun = Instant::now();
    shows(&server.ask_for("+447400123499").await, 200, "me_sent");
    server.until_counted(&visits("nothing_stored", 1)).await;
    // No message was sent yet, so it takes as long as a message over the internet.
    assert!(begun.elapsed() >= Duration::from_millis(150), "{:?}", begun.elapsed());
    assert!(gateway.told().is_empty());
}

fn number_body(attempt: u64) -> Value {
    json!({
        "client_secret": "secret", "country": "GB", "phone_number": "07400 123456", "send_attempt": attempt,
    })
}

/// A server with a gateway, and somebody who has asked to have a number confirmed.
async fn with_number(gateway: &Gateway, change: impl FnOnce(&mut Config)) -> (Server, User) {
    let server = Server::start_with(|config| {
        gateway.configure(config);
        unlimited(config);
        change(config);
    })
    .await;
    let alice = server.user("alice").await;
    server.post("/validate/msisdn/requestToken", &alice, &number_body(1)).await.ok();
    assert_eq!(gateway.told().len(), 1);
    (server, alice)
}

#[tokio::test]
async fn a_number_gets_its_link_as_a_message() {
    let gateway = Gateway::start();
    let (server, alice) = with_number(&gateway, |_| {}).await;
    shows(&server.fill("/me?lang=de", None, &[("address", "+44 (7400) 123456")]).await, 200, "me_sent");
    server.until_counted(&visits("sent", 1)).await;
    let told = gateway.told();
    assert_eq!(told[1].body["to"], "+447400123456");
    let text = told[1].body["text"].as_str().expect("a text");
    let german = words::opening_of_visit_message("de");
    assert!(text.starts_with(&german), "{text}");
    let link = link_in(text);
    let guest = server.follow(&link).await;
    let page = server.see("/me/data", &guest.cookie).await;
    assert!(page.text.contains("+447400123456"), "{}", page.text);

    assert_eq!(server.act(&guest, "/me/suppress", &[]).await.status, 303);
    server.post("/validate/msisdn/requestToken", &alice, &number_body(2)).await.ok();
    assert_eq!(gateway.told().len(), 2, "no code goes there either");
}

#[tokio::test]
async fn links_to_telephones_count_as_messages() {
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 3] = [
        (|config| config.sms.daily_ceiling = at_least_one(1), "ceiling"),
        (|config| config.limits.sms_per_country = Rate::new(1, 1), "limited"),
        (|config| config.limits.sms_per_ip = Rate::new(1, 1), "limited"),
    ];
    for (change, outcome) in changes {
        let gateway = Gateway::start();
        let (server, _) = with_number(&gateway, change).await;
        shows(&server.ask_for("+447400123456").await, 200, "me_sent");
        server.until_counted(&visits(outcome, 1)).await;
        assert_eq!(gateway.told().len(), 1);
    }
}

#[tokio::test]
async fn a_gateway_that_takes_only_codes_is_sent_no_link() {
    let gateway = Gateway::start();
    let only_codes = |config: &mut Config| {
        config.sms.http.body =
            [("to", "{to}"), ("text", "{code}")].map(|(name, value)| (name.to_owned(), json!(value))).into();
    };
    let (server, _) = with_number(&gateway, only_codes).await;
    shows(&server.ask_for("+447400123456").await, 200, "me_sent");
    server.until_counted(&visits("not_sent", 1)).await;
    assert_eq!(gateway.told().len(), 1);
}

/// How many codes can still be requested for numbers of the country, up to 30.
async fn codes_left(server: &Server, gateway: &Gateway, user: &User) -> usize {
    let before = gateway.told().len();
    for number in 0..30 {
        let mut body = number_body(1);
        body["phone_number"] = json!(format!("07400 1235{number:02}"));
        let reply = server.post("/validate/msisdn/requestToken", user, &body).await;
        if reply.status == 429 {
            break;
        }
    }
    gateway.told().len() - before
}

#[tokio::test]
async fn a_link_for_a_known_number_and_for_an_unknown_one_move_the_shared_limits_alike() {
    type Change = fn(&mut Config);
    let changes: [Change; 2] = [
        |config| config.limits.sms_per_country = Rate::new(13, 1),
        |config| config.sms.daily_ceiling = at_least_one(13),
    ];
    for change in changes {
        let mut left = Vec::new();
        // The known number, one that nothing is stored about, and one that has opted out.
        for address in ["+447400123456", "+447400123499", "silent"] {
            let gateway = Gateway::start();
            let (server, alice) = with_number(&gateway, |config| {
                change(config);
                let rate = Rate::new(100, 100);
                config.limits.sms_per_account = rate;
                config.limits.sms_per_homeserver = rate;
                config.limits.sms_per_ip = rate;
            })
            .await;
            server.ask_for("+447400123456").await;
            server.until_counted(&visits("sent", 1)).await;
            let (address, outcome) = match address {
                "silent" => {
                    let text = gateway.told()[1].body["text"].as_str().expect("a text").to_owned();
                    let guest = server.follow(&link_in(&text)).await;
                    assert_eq!(server.act(&guest, "/me/suppress", &[("sure", "yes")]).await.status, 303);
                    ("+447400123456", visits("suppressed", 1))
                }
                "+447400123456" => (address, visits("sent", 2)),
                _ => (address, visits("nothing_stored", 1)),
            };
            shows(&server.ask_for(address).await, 200, "me_sent");
            server.until_counted(&outcome).await;
            left.push(codes_left(&server, &gateway, &alice).await);
        }
        assert_eq!(left, [10, 10, 10], "of thirteen, one code and two links are gone");
    }
}

#[tokio::test]
async fn links_for_unknown_numbers_leave_three_quarters_for_codes() {
    let gateway = Gateway::start();
    let (server, alice) = with_number(&gateway, |config| {
        config.limits.sms_per_country = Rate::new(12, 1);
        let rate = Rate::new(100, 100);
        config.limits.sms_per_account = rate;
        config.limits.sms_per_homeserver = rate;
        config.limits.sms_per_ip = rate;
    })
    .await;
    for number in 10..30 {
        shows(&server.ask_for(&format!("+4474001236{number}")).await, 200, "me_sent");
    }
    server.until_counted(&visits("nothing_stored", 3)).await;
    assert_eq!(codes_left(&server, &gateway, &alice).await, 12 - 1 - 3);
}

#[tokio::test]
async fn a_validation_of_an_address_that_opted_out_fails_as_others_do() {
    const SILENT: &str = "silent@example.org";
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, SILENT, "secret").await;
    let guest = server.guest(SILENT).await;
    assert_eq!(server.act(&guest, "/me/suppress", &[("sure", "yes")]).await.status, 303);
    let relay = Relay::start(SmtpSecurity::None);
    let server = server.restart(|config| {
        relay.configure(config);
        config.mail.smtp.timeout_seconds = at_least_one(2);
        let limits = &mut config.limits;
        limits.request_token_per_account = Rate::new(100, 100);
        limits.request_token_per_account_and_address = Rate::new(100, 100);
        limits.request_token_per_address = Rate::new(100, 100);
    });
    let moods = [
        (Mood::Accept, true),
        (Mood::Refuse(Stage::Sender, 451), false),
        (Mood::Accept, true),
        (Mood::Drop(Stage::Greeting), false),
    ];
    for (number, (mood, works)) in moods.into_iter().enumerate() {
        relay.set(mood);
        for address in ["bob@example.org", SILENT] {
            let secret = format!("secret{number}");
            let body = json!({ "email": address, "client_secret": secret, "send_attempt": 1 });
            let reply = server.post("/validate/email/requestToken", &alice, &body).await;
            match works {
                true => drop(reply.ok()),
                false => drop(reply.refused(400, "M_EMAIL_SEND_ERROR")),
            }
        }
    }
    let ask = async |address: &str, secret: &str| {
        let body = json!({ "email": address, "client_secret": secret, "send_attempt": 1 });
        server.post("/validate/email/requestToken", &alice, &body).await
    };
    // What the relay says about a recipient is what it would say about this one too.
    for status in [450, 550] {
        relay.set(Mood::Refuse(Stage::Recipient, status));
        for address in ["bob@example.org", SILENT] {
            ask(address, &format!("refused{status}")).await.refused(400, "M_EMAIL_SEND_ERROR");
        }
    }
    // A caller can have addresses of their own refused. That says nothing about others.
    relay.set(Mood::DropAt("dead.test"));
    for number in 0..6 {
        ask(&format!("a{number}@dead.test"), "dead").await.refused(400, "M_EMAIL_SEND_ERROR");
    }
    ask(SILENT, "dead").await.ok();
    // Nor do those that wait while the relay is slow about their domain.
    relay.set(Mood::SilentTo("slow.test"));
    let slow = ["a@slow.test", "b@slow.test", "c@slow.test"].map(|address| ask(address, "slow"));
    for reply in futures_util::future::join_all(slow).await {
        reply.refused(400, "M_EMAIL_SEND_ERROR");
    }
    ask(SILENT, "slow").await.ok();
    assert!(relay.seen(|seen| seen.mails.iter().all(|mail| mail.to == ["bob@example.org"])));
}
