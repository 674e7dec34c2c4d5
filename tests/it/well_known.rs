//! `.well-known/matrix/server` (Server-Server API, "Resolving server names", step 3): redirects, useless
//! answers, and how long Bindery caches each.

use std::time::Duration;

use bindery::domain::bucket::Rate;
use serde_json::json;

use crate::support::{
    Server, at_least_one,
    homeserver::Answer,
    network::{Network, OTHER_PORT, PORTS, WELL_KNOWN, server_beside},
};

const HOUR: Duration = Duration::from_secs(3600);

fn redirect(location: &str) -> Answer {
    Answer::Raw(302, "location", location.to_owned(), Vec::new())
}

fn delegation(server: &str) -> Answer {
    Answer::Json(200, json!({ "m.server": server }))
}

/// The server under test and the homeserver `hs.test`, which it finds only through a delegation to `right.test`.
fn beside_delegated(network: &Network) -> Server {
    network.dns.address("right.test", network.home);
    server_beside(network.put((network.home, OTHER_PORT), &["right.test"], "hs.test"))
}

/// The server under test and the homeserver `hs.test`, which it finds only without a delegation.
fn beside_plain(network: &Network) -> Server {
    server_beside(network.put((network.web, PORTS.federation), &["hs.test"], "hs.test"))
}

#[tokio::test]
async fn redirects_are_followed() {
    let network = Network::new();
    let site = network.site(&["hs.test", "other.test"]);
    site.answer(WELL_KNOWN, redirect(&format!("https://other.test:{}/first?a=b", PORTS.https)));
    site.answer("/first?a=b", redirect("second"));
    site.answer("/second", Answer::Raw(308, "location", "//hs.test:18443/third".to_owned(), Vec::new()));
    site.answer("/third", delegation(&format!("right.test:{OTHER_PORT}")));
    let server = beside_delegated(&network);
    server.register("alice").await;
    let hosts = ["hs.test:18443", "other.test:18443", "other.test:18443", "hs.test:18443"];
    let paths = [WELL_KNOWN, "/first?a=b", "/second", "/third"];
    let expected: Vec<_> = hosts.into_iter().zip(paths).map(|(h, p)| (h.to_owned(), p.to_owned())).collect();
    assert_eq!(*site.asked.lock().expect("not poisoned"), expected);
}

#[tokio::test]
async fn a_redirect_loop_ends_and_counts_as_no_answer() {
    let network = Network::new();
    let site = network.site(&["hs.test"]);
    site.answer(WELL_KNOWN, redirect(WELL_KNOWN));
    let server = beside_plain(&network);
    server.register("alice").await;
    assert_eq!(site.times_asked(WELL_KNOWN), 6, "the first request and five redirects");
}

#[tokio::test]
async fn a_redirect_leads_to_https_only() {
    let network = Network::new();
    let site = network.site(&["hs.test"]);
    let trap = network.put((network.home, 18080), &["hs.test"], "trap.test");
    network.dns.address("trap.test", network.home);
    let server = beside_plain(&network);
    let places = [
        "http://trap.test:18080/",
        "http://hs.test:18443/elsewhere",
        "HTTP://trap.test:18080/",
        "ftp://trap.test:18080/",
        "https://user@hs.test:18443/elsewhere",
        "https://user:password@hs.test:18443/elsewhere",
        "data:application/json,{\"m.server\":\"right.test:18999\"}",
        "https://",
        "https://[/",
        "",
    ];
    site.answer("/elsewhere", delegation(&format!("right.test:{OTHER_PORT}")));
    for place in places {
        site.answer(WELL_KNOWN, redirect(place));
        server.register("alice").await;
        server.clock.forward(2 * HOUR);
    }
    assert_eq!(site.times_asked("/elsewhere"), 0);
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn a_site_with_the_wrong_certificate_is_not_believed() {
    let network = Network::new();
    network.dns.address("hs.test", network.web);
    let site = network.put((network.web, PORTS.https), &["other.test"], "hs.test");
    site.answer(WELL_KNOWN, delegation(&format!("right.test:{OTHER_PORT}")));
    let server = beside_plain(&network);
    server.register("alice").await;
    assert_eq!(site.connections(), 1);
    assert_eq!(site.times_asked(WELL_KNOWN), 0);
}

#[tokio::test]
async fn without_a_usable_answer_srv_records_count_and_then_the_default_port() {
    let trap = json!({ "m.server": format!("trap.test:{OTHER_PORT}") });
    let large = json!({ "m.server": "trap.test", "padding": "x".repeat(50 * 1024) });
    let raw = |status, body: &str| Answer::Raw(status, "x-raw", "yes".to_owned(), body.as_bytes().to_vec());
    let answers = [
        Answer::Json(404, trap.clone()),
        Answer::Json(500, trap.clone()),
        Answer::Json(201, trap.clone()),
        Answer::Json(304, trap.clone()),
        Answer::Json(302, trap.clone()),
        Answer::Json(200, large),
        Answer::Huge(10 << 20),
        raw(200, ""),
        raw(200, "{"),
        raw(200, "{\"m.server\": \"trap.test\"} and more"),
        raw(200, "\u{0}"),
        Answer::Json(200, json!({})),
        Answer::Json(200, json!([trap])),
        Answer::Json(200, json!("trap.test")),
        Answer::Json(200, json!({ "m.homeserver": { "base_url": "https://trap.test" } })),
        Answer::Json(200, json!({ "m.server": null })),
        Answer::Json(200, json!({ "m.server": ["trap.test"] })),
        Answer::Json(200, json!({ "m.server": 1 })),
        Answer::Json(200, json!({ "m.server": "" })),
        Answer::Json(200, json!({ "m.server": "https://trap.test" })),
        Answer::Json(200, json!({ "m.server": "trap.test:0" })),
        Answer::Json(200, json!({ "m.server": "trap.test:99999" })),
        Answer::Json(200, json!({ "m.server": "trap.test/path" })),
        Answer::Json(200, json!({ "m.server": "127.1" })),
    ];
    let network = Network::new();
    let names = ["plain.test", "srv.test", "old.test"];
    let site = network.site(&names);
    network.dns.srv("_matrix-fed._tcp.srv.test", 0, OTHER_PORT, "node.test");
    network.dns.srv("_matrix._tcp.old.test", 0, OTHER_PORT, "node.test");
    network.dns.address("node.test", network.home);
    let plain = network.put((network.web, PORTS.federation), &["plain.test"], "plain.test");
    let by_srv = network.put((network.home, OTHER_PORT), &["srv.test", "old.test"], "srv.test");
    let tokens = [
        plain.openid_token("@alice:plain.test"),
        by_srv.openid_token("@alice:srv.test"),
        by_srv.openid_token("@alice:old.test"),
    ];
    let server = Server::start_for(plain, |config| config.limits.register_per_ip = Rate::new(1000, 1000));
    for (number, answer) in answers.into_iter().enumerate() {
        site.answer(WELL_KNOWN, answer);
        for (name, token) in names.iter().zip(&tokens) {
            let reply = server.register_with(name, token).await;
            assert_eq!(reply.status, 200, "answer {number} for {name}: {}", reply.text);
        }
        server.clock.forward(2 * HOUR);
    }
    assert_eq!(site.times_asked(WELL_KNOWN), 24 * 3);
    assert!(!network.dns.asked().iter().any(|question| question.contains("trap")));
}

#[tokio::test]
async fn a_site_that_says_nothing_does_not_keep_its_homeserver_from_being_found() {
    let network = Network::new();
    let site = network.site(&["hs.test"]);
    site.answer(WELL_KNOWN, Answer::Silence);
    let home = network.put((network.web, PORTS.federation), &["hs.test"], "hs.test");
    let server = Server::start_for(home, |config| config.homeservers.timeout_seconds = at_least_one(2));
    server.register("alice").await;
    server.register("bob").await;
    assert_eq!(site.times_asked(WELL_KNOWN), 1, "the silence is remembered");
}

#[tokio::test]
async fn an_answer_is_remembered_for_a_day() {
    let network = Network::new();
    let site = network.delegate("hs.test", &format!("right.test:{OTHER_PORT}"));
    let server = beside_delegated(&network);
    server.register("alice").await;
    server.register("bob").await;
    server.clock.forward(24 * HOUR - Duration::from_millis(1));
    server.register("carol").await;
    assert_eq!(site.times_asked(WELL_KNOWN), 1);
    server.clock.forward(Duration::from_millis(1));
    server.register("dan").await;
    server.register("erin").await;
    assert_eq!(site.times_asked(WELL_KNOWN), 2);
}

#[tokio::test]
async fn an_answer_is_remembered_as_long_as_it_says_and_two_days_at_most() {
    let network = Network::new();
    let site = network.site(&["hs.test"]);
    let server = beside_delegated(&network);
    let second = Duration::from_secs(1);
    let cases = [
        ("max-age=60", 60 * second),
        ("public, Max-Age=\"60\", immutable", 60 * second),
        ("max-age=864000", 48 * HOUR),
        ("max-age=18446744073709551615", 48 * HOUR),
        ("max-age=nonsense", 24 * HOUR),
        ("public", 24 * HOUR),
        ("no-cache", Duration::ZERO),
        ("no-store", Duration::ZERO),
        ("max-age=0", Duration::ZERO),
        ("max-age=3600, no-store", Duration::ZERO),
    ];
    for (header, lifetime) in cases {
        let body = json!({ "m.server": format!("right.test:{OTHER_PORT}") }).to_string().into_bytes();
        site.answer(WELL_KNOWN, Answer::Raw(200, "cache-control", header.to_owned(), body));
        let before = site.times_asked(WELL_KNOWN);
        server.register("alice").await;
        assert_eq!(site.times_asked(WELL_KNOWN), before + 1, "{header}");
        if lifetime.is_zero() {
            server.register("alice").await;
            assert_eq!(site.times_asked(WELL_KNOWN), before + 2, "{header}");
        } else {
            server.clock.forward(lifetime - second);
            server.register("alice").await;
            assert_eq!(site.times_asked(WELL_KNOWN), before + 1, "{header}");
            server.clock.forward(second);
        }
    }
}

#[tokio::test]
async fn a_failure_is_remembered_shortly_and_longer_each_time() {
    let network = Network::new();
    let site = network.site(&["hs.test"]);
    let server = beside_plain(&network);
    let second = Duration::from_secs(1);
    for (failures, minutes) in [1, 2, 4, 8, 16, 32, 60, 60, 60].into_iter().enumerate() {
        server.register("alice").await;
        server.clock.forward(minutes * 60 * second - second);
        server.register("alice").await;
        assert_eq!(site.times_asked(WELL_KNOWN), failures + 1);
        server.clock.forward(second);
    }
}
