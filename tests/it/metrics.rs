//! `/metrics`: the complete list of series of a fresh server, that they move with what they count, and that no label
//! ever names anybody.

mod monitoring_files;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use bindery::domain::bucket::Rate;
use serde_json::json;

use crate::support::{Server, gateway::Gateway, hash, homeserver::Answer, v2};

/// A sample: the name with its suffix, the labels, the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Every sample of a text in the OpenMetrics format.
pub fn samples(metrics: &str) -> Vec<Sample> {
    metrics.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').expect("the end of the labels");
    let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
        let (name, value) = label.split_once('=').expect("a label");
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse().expect("a number") }
}

/// The value of a series; a panic if there is none.
#[track_caller]
fn value(metrics: &str, series: &str) -> f64 {
    let wanted = sample(&format!("{series} 0"));
    let found = samples(metrics).into_iter().find(|s| s.name == wanted.name && s.labels == wanted.labels);
    found.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).value
}

#[tokio::test]
async fn every_series_exists_from_the_start_and_is_zero() {
    let server = Server::start().await;
    server.round_is_done().await;
    let metrics = server.metrics().await;
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let not_zero = [
        "bindery_build_info",
        "bindery_rotation_last_success_timestamp_seconds",
        "bindery_retention_last_success_timestamp_seconds",
        "bindery_database_size_bytes",
        "bindery_data_dir_free_bytes",
    ];
    let is_measured = |name: &str| {
        name.starts_with("process_") || name.starts_with("bindery_commit_") || not_zero.contains(&name)
    };
    for sample in samples(&metrics) {
        assert!(sample.value == 0.0 || is_measured(&sample.name), "{sample:?}");
        assert!(sample.value > 0.0 || !not_zero.contains(&sample.name.as_str()), "{sample:?}");
    }
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path("../data");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("metrics", summary(&metrics)));
}

/// The families with their types, their help, and the values of each label.
fn summary(metrics: &str) -> String {
    let mut text = String::new();
    let all = samples(metrics);
    for line in metrics.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a help text");
            let _ = writeln!(text, "{name}: {help}");
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let suffixes = ["", "_total", "_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}"));
        let own: Vec<&Sample> = all.iter().filter(|sample| suffixes.contains(&sample.name)).collect();
        let _ = writeln!(text, "  {kind}, {} samples", own.len());
        let labels: BTreeSet<&String> = own.iter().flat_map(|sample| sample.labels.keys()).collect();
        for label in labels {
            let values: BTreeSet<&str> =
                own.iter().filter_map(|sample| sample.labels.get(label)).map(String::as_str).collect();
            let values: Vec<&str> = values.into_iter().collect();
            let values = values.join(" ").replace(env!("CARGO_PKG_VERSION"), "VERSION");
            let _ = writeln!(text, "  {label}: {values}");
        }
    }
    text
}

#[tokio::test]
async fn the_counters_move_with_what_they_count_and_no_label_names_anybody() {
    let gateway = Gateway::start();
    let mut server = Server::start_with(|config| {
        gateway.configure(config);
        config.lookup.daily_budget = NonZeroU64::new(3).expect("not zero");
        config.lookup.max_addresses = 3;
        config.limits.request_token_per_address = Rate::new(2, 1);
        config.sms.daily_ceiling = NonZeroU32::new(1).expect("not zero");
    })
    .await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    let phone = |attempt: u64| json!({ "country": "GB", "phone_number": "07400 123456", "client_secret": "phone", "send_attempt": attempt });
    server.post("/validate/msisdn/requestToken", &alice, &phone(1)).await.ok();
    server.post("/validate/msisdn/requestToken", &alice, &phone(2)).await.refused(429, "M_LIMIT_EXCEEDED");
    server.invite(&alice, "carol@example.org", "!room:hs.test").await;
    server.mail_to("carol@example.org", 0).await;
    let ask = json!({ "email": "dora@example.org", "client_secret": "s", "send_attempt": 1 });
    for secret in ["a", "b"] {
        let body = json!({ "email": "dora@example.org", "client_secret": secret, "send_attempt": 1 });
        server.post("/validate/email/requestToken", &bob, &body).await.ok();
    }
    server.post("/validate/email/requestToken", &bob, &ask).await.refused(429, "M_LIMIT_EXCEEDED");
    let details = server.get("/hash_details", &bob).await.ok();
    let pepper = details["lookup_pepper"].as_str().expect("a pepper").to_owned();
    let hashes: Vec<String> = (0..3).map(|n| hash(&format!("{n}@example.org"), "email", &pepper)).collect();
    let lookup = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": hashes });
    server.post("/lookup", &bob, &lookup).await.ok();
    server.post("/lookup", &bob, &lookup).await.refused(429, "M_LIMIT_EXCEEDED");
    server.register_with("127.0.0.1:1", "token").await.refused(502, "M_UNKNOWN");
    server.clock.forward(Duration::from_secs(1));
    server.until_counted("bindery_outbox_total{kind=\"invitation_mail\",outcome=\"delivered\"} 1").await;

    let metrics = server.metrics().await;
    for (series, expected) in [
        ("bindery_http_requests_total{kind=\"lookup\",code=\"200\"}", 1.0),
        ("bindery_http_requests_total{kind=\"lookup\",code=\"429\"}", 1.0),
        ("bindery_http_requests_total{kind=\"bind\",code=\"200\"}", 1.0),
        ("bindery_http_request_duration_seconds_count{kind=\"lookup\"}", 2.0),
        ("bindery_http_request_duration_seconds_bucket{kind=\"lookup\",le=\"+Inf\"}", 2.0),
        ("bindery_looked_up_addresses_total", 3.0),
        ("bindery_lookup_budget_exhausted_total{of=\"account\"}", 1.0),
        ("bindery_lookup_budget_exhausted_total{of=\"network\"}", 0.0),
        ("bindery_requests_limited_total{limit=\"request_token_per_address\"}", 1.0),
        ("bindery_requests_limited_total{limit=\"sms_daily_ceiling\"}", 1.0),
        ("bindery_mails_total{kind=\"validation\",outcome=\"accepted\"}", 3.0),
        ("bindery_mails_total{kind=\"invitation\",outcome=\"accepted\"}", 1.0),
        ("bindery_sms_total{outcome=\"accepted\"}", 1.0),
        ("bindery_homeserver_requests_total{outcome=\"answered\"}", 2.0),
        ("bindery_homeserver_requests_total{outcome=\"unreachable\"}", 1.0),
        ("bindery_outbox_waiting{kind=\"invitation_mail\"}", 0.0),
        ("bindery_bindings", 1.0),
        ("bindery_tokens", 2.0),
        ("bindery_write_failures_total", 0.0),
        ("bindery_mail_last_success_timestamp_seconds", 1_800_000_000.0),
        ("bindery_sms_last_success_timestamp_seconds", 1_800_000_000.0),
        ("bindery_rotation_last_success_timestamp_seconds", 1_800_000_000.0),
    ] {
        assert_eq!(value(&metrics, series), expected, "{series}\n{metrics}");
    }
    for series in ["bindery_commit_duration_seconds_count", "bindery_commit_writes_sum"] {
        assert!(value(&metrics, series) >= 5.0, "{series}\n{metrics}");
    }
    for series in ["process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"] {
        assert!(value(&metrics, series) > 0.0, "{series}\n{metrics}");
    }
    for sample in samples(&metrics) {
        for (label, value) in &sample.labels {
            let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.+".contains(c);
            let is_closed = value.len() <= 40 && (value == "+Inf" || value.chars().all(is_word));
            assert!(is_closed, "{label}={value} in {sample:?}");
        }
    }
    for named in ["@", "example.org", "hs.test", "alice", "bob", "room", "127.0.0.1", &alice.token, &pepper] {
        assert!(!metrics.contains(named), "{named} is in\n{metrics}");
    }
    // Rows of the outbox that wait, and how long: the homeserver does not answer.
    server.homeserver.answer("/_matrix/federation/v1/3pid/onbind", Answer::Json(500, json!({})));
    let carol = server.user("carol").await;
    server.bind(&carol, "carol@example.org", "secret").await;
    server.until_counted("bindery_outbox_waiting{kind=\"onbind\"} 1").await;
    server.clock.forward(Duration::from_secs(100));
    server.until_counted("bindery_outbox_oldest_age_seconds{kind=\"onbind\"} 100").await;
    server.leaves_jobs();
}

#[tokio::test]
async fn a_request_to_an_unknown_path_is_of_the_kind_other_whatever_it_says() {
    let server = Server::start().await;
    for path in ["/alice@example.org", "/_matrix/identity/v2/3pid/@alice:hs.test", "/c/secret-of-a-person"] {
        server.send(server.build(reqwest::Method::GET, path)).await;
    }
    server.send(server.build(reqwest::Method::from_bytes(b"ALICE").expect("a method"), &v2(""))).await;
    let metrics = server.metrics().await;
    assert_eq!(value(&metrics, "bindery_http_requests_total{kind=\"other\",code=\"404\"}"), 2.0, "{metrics}");
    assert!(!metrics.to_lowercase().contains("alice") && !metrics.contains("secret-of"), "{metrics}");
}
