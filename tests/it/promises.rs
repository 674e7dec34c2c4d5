//! One test for each promise of the policy (design, section 1), named after it.
//!
//! `data` tests P13, `notice` tests P17 and P20, and `commands` tests P18. P7 and the federation's half of P8
//! and P9 need the federation, which does not exist yet.

mod physical;
mod reverse;

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use bindery::{
    config::Config,
    domain::{clock::Clock, ids::UserId, network::Network},
};
use reqwest::Method;
use serde_json::json;

use crate::{
    budgets::refused,
    support::{Server, TestClock, core::core_in_memory, files_with, hash, published::Published, v2},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server that writes its mails outside its data directory, and that directory. So everything in the directory
/// is data that the server stores.
pub async fn only_files(change: impl FnOnce(&mut Config)) -> (Server, PathBuf) {
    let server = Server::start_with(|config| {
        config.mail.directory = Some(config.data_dir.with_file_name("mail"));
        config.sms.directory = Some(config.data_dir.with_file_name("sms"));
        change(config);
    })
    .await;
    let data = server.config.data_dir.clone();
    (server, data)
}

#[tokio::test]
async fn p1_validation_alone_publishes_nothing() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let sid = server.request_token(&alice, "alice@example.org", "secret", 1).await;
    let bind = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id });
    server.post("/3pid/bind", &alice, &bind).await.refused(400, "M_SESSION_NOT_VALIDATED");
    let sid = server.validate(&alice, "alice@example.org", "other").await;
    assert_eq!(server.find(&bob, "alice@example.org").await, None);
    let bind = json!({ "sid": sid, "client_secret": "other", "mxid": alice.id });
    server.post("/3pid/bind", &alice, &bind).await.ok();
    assert_eq!(server.find(&bob, "alice@example.org").await, Some(alice.id));
}

#[tokio::test]
async fn p3_single_and_bulk_lookup() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    let details = server.get("/hash_details", &bob).await.ok();
    assert_eq!(details["algorithms"], json!(["sha256"]));
    let pepper = details["lookup_pepper"].as_str().expect("a pepper");
    let known = hash("alice@example.org", "email", pepper);
    let others = (0..9_999).map(|number| hash(&format!("{number}@example.org"), "email", pepper));
    let addresses: Vec<String> = others.chain([known.clone()]).collect();
    for addresses in [vec![known.clone()], addresses] {
        let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": addresses });
        let found = server.post("/lookup", &alice, &body).await;
        // The second lookup costs more than the first leaves in the budget.
        if found.status == 429 {
            server.clock.forward(DAY);
            let found = server.post("/lookup", &alice, &body).await.ok();
            assert_eq!(found["mappings"], json!({ known.as_str(): alice.id }));
        } else {
            assert_eq!(found.ok()["mappings"], json!({ known.as_str(): alice.id }));
        }
    }
}

#[tokio::test]
async fn p4_a_number_verified_for_a_homeserver_is_published_nowhere_and_goes_after_a_day() {
    let (server, data) = only_files(|config| {
        config.sms.gateway = bindery::config::SmsTransport::Directory;
        config.sms.countries = vec!["GB".to_owned()];
        config.delegation.allowed_networks = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    let ask =
        json!({ "client_secret": "s", "country": "GB", "phone_number": "07400 123456", "send_attempt": 1 });
    let path = "/_matrix/identity/api/v1/validate/msisdn/requestToken";
    let sid = server.request(Method::POST, path, None, Some(&ask)).await.ok()["sid"].clone();
    let message = std::fs::read_dir(server.config.sms_directory()).expect("messages").next();
    let message = std::fs::read_to_string(message.expect("one").expect("readable").path()).expect("text");
    let code = message.split_whitespace().find(|word| word.len() == 6 && word.parse::<u32>().is_ok());
    let code = code.expect("a code").to_owned();
    let submit = json!({ "sid": sid, "client_secret": "s", "token": code });
    let path = "/_matrix/identity/api/v1/validate/msisdn/submitToken";
    assert_eq!(server.request(Method::POST, path, None, Some(&submit)).await.ok()["success"], true);
    let alice = server.user("alice").await;
    let details = server.get("/hash_details", &alice).await.ok();
    let hash = hash("447400123456", "msisdn", details["lookup_pepper"].as_str().expect("a pepper"));
    let body = json!({ "algorithm": "sha256", "pepper": details["lookup_pepper"], "addresses": [hash] });
    assert_eq!(server.post("/lookup", &alice, &body).await.ok()["mappings"], json!({}));
    let bind = json!({ "sid": sid, "client_secret": "s", "mxid": alice.id });
    assert_ne!(server.post("/3pid/bind", &alice, &bind).await.status, 200);
    assert_ne!(files_with(&data, b"447400123456").len(), 0);
    server.pass(2 * DAY).await;
    assert_eq!(files_with(&data, b"447400123456").len(), 0);
}

#[tokio::test]
async fn p5_nothing_here_resets_a_password() {
    let server = Server::start_with(|config| {
        config.delegation.allowed_networks = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    for path in [
        "/_matrix/identity/api/v1/validate/email/requestToken",
        "/_matrix/identity/api/v1/validate/email/submitToken",
        "/_matrix/identity/api/v1/3pid/bind",
        "/_matrix/identity/api/v1/lookup",
    ] {
        for method in [Method::GET, Method::POST] {
            let body = json!({ "client_secret": "s", "email": "a@example.org", "send_attempt": 1 });
            server.request(method, path, None, Some(&body)).await.refused(404, "M_UNRECOGNIZED");
        }
    }
}

#[tokio::test]
async fn p6_publishing_needs_an_account_accepted_terms_and_a_validated_session() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let sid = server.validate(&alice, "alice@example.org", "secret").await;
    let bind = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id });
    let path = v2("/3pid/bind");
    server.request(Method::POST, &path, None, Some(&bind)).await.refused(401, "M_UNAUTHORIZED");
    let server = server.restart(|config| {
        config.terms.insert("terms".to_owned(), crate::support::terms("2"));
    });
    server.post("/3pid/bind", &alice, &bind).await.refused(403, "M_TERMS_NOT_SIGNED");
    let url = &server.config.terms["terms"].languages["en"].url;
    server.post("/terms", &alice, &json!({ "user_accepts": [url] })).await.ok();
    server.post("/3pid/bind", &alice, &bind).await.ok();
}

#[tokio::test]
async fn p8_what_is_withdrawn_is_found_by_nobody_from_then_on() {
    let published = Published::new().await;
    assert!(published.is_published().await);
    let content = published.content();
    published.unbind(&published.header(), &content).await.ok();
    assert!(!published.is_published().await);
}

#[tokio::test]
async fn p10_deactivating_an_account_removes_its_addresses_however_often_it_is_said() {
    let published = Published::new().await;
    let content = published.content();
    for _ in 0..3 {
        published.unbind(&published.header(), &content).await.ok();
    }
    assert!(!published.is_published().await);
    let about = json!({ "since": 0, "about": { "address": "alice@example.org" } });
    let audit = published.server.control("/audit", &about).await;
    assert_eq!((&audit[0]["deed"], &audit[0]["by"]), (&json!("unbinding"), &json!("homeserver")));
    assert_eq!(audit.as_array().expect("rows").len(), 1, "nothing was removed the other times");
}

#[tokio::test]
async fn p11_a_copy_of_ones_data_is_complete_and_about_nobody_else() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    server.bind(&bob, "bob@example.org", "secret").await;
    server.find(&bob, "alice@example.org").await.expect("found");
    let copy = server.control("/export", &json!({ "address": "alice@example.org" })).await;
    assert_eq!(copy["bindings"][0]["user_id"], json!(alice.id));
    assert_eq!(copy["validation_sessions"][0]["state"], "validated");
    assert!(!copy.to_string().contains("bob"), "{copy}");
    let logged = async || {
        let copy = server.control("/export", &json!({ "address": "alice@example.org" })).await;
        copy["lookups"].as_array().is_some_and(|lookups| lookups.len() == 1)
    };
    server.until("the lookup is in the copy", logged).await;
    let copy = server.control("/export", &json!({ "mxid": bob.id })).await;
    let made = &copy["lookups_made"][0];
    assert_eq!(
        (&made["addresses"], &made["found"], &made["ip"]),
        (&json!(1), &json!(1), &json!("127.0.0.1"))
    );
    let own = server.request(Method::GET, "/_bindery/v1/account/export", Some(&bob.token), None).await.ok();
    let made = &own["lookups_made"][0];
    assert_eq!((&made["addresses"], &made["ip"]), (&json!(1), &json!(null)), "others can have a token too");
}

#[tokio::test]
async fn p12_rights_do_not_depend_on_consent() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, "alice@example.org", "secret").await;
    let server = server.restart(|config| {
        config.terms.insert("terms".to_owned(), crate::support::terms("2"));
    });
    server.get("/account", &alice).await.refused(403, "M_TERMS_NOT_SIGNED");
    let copy = server.request(Method::GET, "/_bindery/v1/account/export", Some(&alice.token), None).await;
    assert_eq!(copy.ok()["bindings"][0]["address"], "a...@e...");
    server.request(Method::DELETE, "/_bindery/v1/account", Some(&alice.token), None).await.ok();
    let bob = server.register("bob").await;
    let url = &server.config.terms["terms"].languages["en"].url;
    server.post("/terms", &bob, &json!({ "user_accepts": [url] })).await.ok();
    assert_eq!(server.find(&bob, "alice@example.org").await, None);
}

#[tokio::test]
async fn p16_a_million_addresses_take_one_account_half_a_year() {
    let account = UserId::parse("@curious:hs.test").expect("a user ID");
    for at_once in [1, 100, 10_000] {
        let clock = TestClock::new();
        let core = core_in_memory(clock.clone()).await;
        let budgets = core.budgets.keys_of(&account);
        let (began, mut seen) = (clock.now(), 0);
        while seen < 1_000_000 {
            match core.budgets.take(&budgets, Network::of(Ipv4Addr::LOCALHOST.into()), at_once, clock.now()) {
                Ok(()) => seen += at_once,
                refusal => clock.forward(refused(refusal)),
            }
        }
        assert_eq!((clock.now().0 - began.0) / DAY.as_millis() as u64, 198, "{at_once} at once");
    }
}

#[tokio::test]
async fn p19_the_data_directory_is_closed_and_every_export_and_erasure_is_noted() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, "alice@example.org", "secret").await;
    let data = &server.config.data_dir;
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(data), 0o700);
    for path in ["/export", "/erase", "/audit", "/retention/run", "/retention/status"] {
        let reply = server.request(Method::POST, path, Some(&alice.token), Some(&json!({}))).await;
        reply.refused(404, "M_UNRECOGNIZED");
    }
    let whom = json!({ "address": "alice@example.org" });
    server.control("/export", &whom).await;
    server.control("/erase", &whom).await;
    let entries = server.control("/audit", &json!({ "since": 0, "about": whom })).await;
    let deeds = entries.as_array().expect("entries").iter().map(|entry| entry["deed"].clone());
    assert_eq!(deeds.collect::<Vec<_>>(), [json!("export"), json!("erasure")]);
    assert!(!entries.to_string().contains("alice"), "{entries}");
}

#[tokio::test]
async fn p14_and_p15_the_logs_go_from_the_disk_when_their_time_is_over() {
    let (server, data) = only_files(|_| {}).await;
    let alice = server.user("alice").await;
    let details = server.get("/hash_details", &alice).await.ok();
    let looked_up =
        hash("somebody@example.org", "email", details["lookup_pepper"].as_str().expect("a pepper"));
    server.find(&alice, "somebody@example.org").await;
    let call = server.build(Method::GET, "/").header("user-agent", "Distinctive/3");
    server.send(call.header("x-forwarded-for", "198.51.100.99")).await;
    let held = |trace: &str| files_with(&data, trace.as_bytes()).len();
    let written = async || {
        server.clock.forward(Duration::from_secs(60));
        held(&looked_up) == 1 && held("Distinctive/3") == 1 && held("198.51.100.99") == 2
    };
    server.until("the logs are written", written).await;
    for (until, trace) in [(7, looked_up.as_str()), (60, "Distinctive/3"), (180, "198.51.100.99")] {
        let now = Clock::now(&*server.clock).0;
        let day = Duration::from_millis(now - 1_800_000_000_000);
        // Up to the day before it must be gone.
        server.pass((until - 1) * DAY - day).await;
        assert_ne!(held(trace), 0, "{trace} goes before its time");
        server.pass(DAY).await;
        assert_eq!(held(trace), 0, "{trace} is there after {until} days");
    }
}
