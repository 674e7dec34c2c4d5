//! The privacy notice: which changes ask for consent again, the stored editions, and that each language states
//! everything that it must (design, P17 and P20).

use std::{collections::BTreeSet, time::Duration};

use bindery::{
    config::{Config, LookupLog, Processor},
    domain::language::Language,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Server, User, at_least_one, markup, v2, words};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server without terms documents, with every `operator` key set.
async fn server() -> Server {
    Server::start_with(|config| {
        config.terms.clear();
        config.privacy.lookup_log = LookupLog::Summary;
        config.privacy.lookup_log_days = at_least_one(5);
        config.privacy.access_log_days = at_least_one(40);
        config.privacy.connection_log_days = at_least_one(100);
        config.privacy.deleted_binding_days = at_least_one(20);
        config.privacy.idle_account_days = at_least_one(200);
        config.invites.expire_days = at_least_one(25);
        config.operator.name = "Example Society".to_owned();
        config.operator.postal_address = "1 Example Road, Exampletown".to_owned();
        config.operator.contact = "privacy@example.org".to_owned();
        config.operator.authority = "Example Authority".to_owned();
        config.operator.authority_url = "https://authority.example/complain".to_owned();
        config.operator.data_protection_officer = "Dana Officer".to_owned();
        config.operator.eu_representative = "Rep Limited".to_owned();
        config.operator.imprint_url = "https://imprint.example/".to_owned();
        config.operator.processors = vec![processor("Example Hosting")];
    })
    .await
}

fn processor(name: &str) -> Processor {
    let url = "https://hosting.example/privacy".to_owned();
    let (name, purpose, country) = (name.to_owned(), "hosts this server".to_owned(), "Sweden".to_owned());
    Processor { name, purpose, url, country }
}

impl Server {
    /// The notice as `/terms` offers it.
    async fn offered(&self) -> Value {
        let terms = self.request(Method::GET, &v2("/terms"), None, None).await.ok();
        let policies = terms["policies"].as_object().expect("policies").clone();
        assert_eq!(policies.keys().collect::<Vec<_>>(), ["privacy_policy"]);
        policies["privacy_policy"].clone()
    }

    async fn asks(&self, user: &User) -> bool {
        let reply = self.get("/account", user).await;
        if reply.status == 200 {
            return false;
        }
        reply.refused(403, "M_TERMS_NOT_SIGNED");
        true
    }

    async fn accept(&self, user: &User, url: &Value) {
        self.post("/terms", user, &json!({ "user_accepts": [url] })).await.ok();
    }

    /// Opens a page with an `Accept-Language` header.
    pub async fn page(&self, path: &str, language: &str) -> Reply {
        self.send(self.build(Method::GET, path).header("accept-language", language)).await
    }

    /// The text of a page.
    async fn read(&self, path: &str) -> String {
        let reply = self.page(path, "en").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        unescaped(&reply.text)
    }
}

fn unescaped(text: &str) -> String {
    text.replace("&#x2f;", "/").replace("&#x27;", "'").replace('\u{a0}', " ")
}

type Step = (&'static str, fn(&mut Config));

const WORSE: &[Step] = &[
    ("a longer period", |config| config.privacy.access_log_days = at_least_one(41)),
    ("another longer period", |config| config.invites.expire_days = at_least_one(26)),
    ("more in the log", |config| config.privacy.lookup_log = LookupLog::Full),
    ("a new processor", |config| config.operator.processors.push(processor("Example Relay"))),
    ("a changed processor", |config| config.operator.processors[0].purpose = "reads mails".to_owned()),
    ("another country", |config| config.operator.processors[0].country = "Norway".to_owned()),
    ("a country that is no longer said", |config| config.operator.processors[0].country.clear()),
    ("a second country", |config| {
        let more = Processor { country: "Norway".to_owned(), ..processor("Example Hosting") };
        config.operator.processors.push(more);
    }),
    ("another controller", |config| config.operator.name = "Other Society".to_owned()),
];

#[tokio::test]
async fn p17_a_change_for_the_worse_asks_for_consent_again() {
    for (what, change) in WORSE {
        let server = server().await;
        let alice = server.user("alice").await;
        let before = server.offered().await;
        let server = server.restart(change);
        assert!(server.asks(&alice).await, "{what}");
        let after = server.offered().await;
        assert_ne!(after["version"], before["version"], "{what}");
        server.accept(&alice, &before["en"]["url"]).await;
        assert!(server.asks(&alice).await, "what was accepted before is not this: {what}");
        server.accept(&alice, &after["fr"]["url"]).await;
        assert!(!server.asks(&alice).await, "{what}");
    }
}

#[tokio::test]
async fn p17_everything_else_asks_nobody_and_the_url_stays() {
    let steps: &[Step] = &[
        ("a shorter period", |config| config.privacy.access_log_days = at_least_one(10)),
        ("less in the log", |config| config.privacy.lookup_log = LookupLog::Off),
        ("a period of a log that is not kept", |config| {
            config.privacy.lookup_log_days = at_least_one(7);
        }),
        ("a processor less", |config| config.operator.processors.clear()),
        ("a data protection officer", |config| {
            config.operator.data_protection_officer = "Dora, dpo@example.org".to_owned();
        }),
        ("another data protection officer", |config| {
            config.operator.data_protection_officer = "Dana, dpo@example.org".to_owned();
        }),
        ("no data protection officer", |config| config.operator.data_protection_officer.clear()),
        ("a representative", |config| config.operator.eu_representative = "Rep, Paris".to_owned()),
        ("an imprint", |config| config.operator.imprint_url = "https://example.org/imprint".to_owned()),
        ("another authority", |config| config.operator.authority = "Other Authority".to_owned()),
        ("no mails to owners", |config| config.privacy.notify_owners = false),
        ("a longer period, which is still no longer than what was accepted", |config| {
            config.privacy.access_log_days = at_least_one(40);
        }),
    ];
    let mut server = server().await;
    let alice = server.user("alice").await;
    let before = server.offered().await;
    for (what, change) in steps {
        server = server.restart(change);
        assert!(!server.asks(&alice).await, "{what}");
        assert_eq!(server.offered().await, before, "{what}");
    }
    assert!(
        server.asks(&server.register("bob").await).await,
        "an account that has accepted nothing is asked"
    );
}

#[tokio::test]
async fn p17_a_country_asks_nobody_who_accepted_a_notice_without_one() {
    let server = server().await.restart(|config| config.operator.processors[0].country.clear());
    let alice = server.user("alice").await;
    let before = server.offered().await;
    let server = server.restart(|config| config.operator.processors[0].country = "Sweden".to_owned());
    assert!(!server.asks(&alice).await);
    assert_eq!(server.offered().await, before);
    // Alice accepted a notice that leaves the country open.
    let server = server.restart(|config| config.operator.processors[0].country = "Norway".to_owned());
    assert!(!server.asks(&alice).await);
}

#[tokio::test]
async fn p17_every_change_is_listed_and_says_whether_it_asks() {
    type Listed = (&'static str, bool, fn(&mut Config));
    let steps: &[Listed] = &[
        ("data_protection_officer", false, |config| {
            config.operator.data_protection_officer = "Dora, dpo@example.org".to_owned();
        }),
        ("eu_representative", false, |config| config.operator.eu_representative = "Rep, Paris".to_owned()),
        ("imprint", false, |config| config.operator.imprint_url = "https://example.org/imprint".to_owned()),
        ("moved_processor", true, |config| config.operator.processors[0].country = "Norway".to_owned()),
        ("moved_processor", true, |config| config.operator.processors[0].country.clear()),
        // From here on, people have accepted a notice that leaves the country open.
        ("located_processor", false, |config| config.operator.processors[0].country = "Norway".to_owned()),
        ("moved_processor", false, |config| config.operator.processors.push(processor("Example Hosting"))),
        ("reduced_processor", false, |config| {
            config.operator.processors.pop();
        }),
        ("new_processor", true, |config| config.operator.processors.push(processor("Example Relay"))),
        ("former_processor", false, |config| {
            config.operator.processors.pop();
        }),
    ];
    let mut server = server().await;
    for (number, (key, asks, change)) in (2..).zip(steps) {
        server = server.restart(change);
        for language in Language::ALL.map(Language::as_str) {
            let list = server.read(&format!("/privacy?lang={language}")).await;
            let start = list.find(&format!("\"/privacy/{number}/{language}\"")).expect("the edition");
            let end = list.find(&format!("\"/privacy/{}/{language}\"", number - 1)).expect("the one before");
            let listed = &list[start..end];
            let name =
                if *key == "new_processor" || *key == "former_processor" { "Relay" } else { "Hosting" };
            let words = words::text(language, "privacy", key).replace("{name}", &format!("Example {name}"));
            assert!(listed.contains(&unescaped(&words)), "{language}: {words} is not in {listed}");
            assert_eq!(listed.matches("data-change=").count(), 1, "{language}: {listed}");
            assert!(listed.contains(&format!("data-change=\"{key}\"")), "{language}: {listed}");
            assert!(listed.contains(&format!("data-asks=\"{asks}\"")), "{language} {key}: {listed}");
        }
    }
}

#[tokio::test]
async fn p17_a_revert_asks_neither_those_who_followed_nor_those_who_did_not() {
    let server = server().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let first = server.offered().await;
    let server = server.restart(|config| config.privacy.access_log_days = at_least_one(60));
    let second = server.offered().await;
    server.accept(&bob, &second["de"]["url"]).await;
    assert!(server.asks(&alice).await && !server.asks(&bob).await);
    let server = server.restart(|config| config.privacy.access_log_days = at_least_one(40));
    assert!(!server.asks(&alice).await && !server.asks(&bob).await);
    let server = server.restart(|config| config.privacy.access_log_days = at_least_one(60));
    assert!(server.asks(&alice).await && !server.asks(&bob).await, "bob has accepted that before");
    assert_ne!(first["version"], second["version"]);
    assert_eq!(server.offered().await, second);
}

#[tokio::test]
async fn p17_every_version_is_kept_with_its_date_and_its_figures() {
    let server = server().await;
    let first = server.offered().await;
    let url =
        first["en"]["url"].as_str().expect("a URL").strip_prefix("https://id.test").expect("ours").to_owned();
    assert!(part(&server.read(&url).await, "period-access_log").contains("40"));
    let server = server.restart(|_| {});
    assert!(!server.read("/privacy").await.contains("\"/privacy/2/en\""), "nothing has changed");

    server.clock.forward(DAY);
    let server = server.restart(|config| config.privacy.access_log_days = at_least_one(60));
    let server = server.restart(|config| config.operator.authority.clear());
    let list = server.read("/privacy?lang=en").await;
    let mut rest = list.as_str();
    for expected in [
        "<a href=\"/privacy/3/en\">",
        "<time datetime=\"2027-01-16\">",
        "data-change=\"words\"",
        "data-asks=\"false\"",
        "<a href=\"/privacy/2/en\">",
        "<time datetime=\"2027-01-16\">",
        "data-change=\"period\"",
        "60",
        "40",
        "data-asks=\"true\"",
        "<a href=\"/privacy/1/en\">",
        "<time datetime=\"2027-01-15\">",
        "data-change=\"first\"",
    ] {
        let at = rest.find(expected).unwrap_or_else(|| panic!("'{expected}' is not next: {rest}"));
        rest = &rest[at..];
    }
    for old in ["/privacy/1/en", &url] {
        let page = server.read(old).await;
        let period = part(&page, "period-access_log");
        assert!(period.contains("40") && !period.contains("60"));
        assert!(page.contains("data-newer=\"3\"") && page.contains("/privacy/3/en"));
    }
    assert!(server.read("/privacy/2/en").await.contains("Example Authority"));
    let newest = server.read("/privacy/3/en").await;
    assert!(part(&newest, "period-access_log").contains("60") && !newest.contains("data-newer"));
    assert!(
        part(&server.read("/privacy/1/de").await, "period-access_log").contains("40"),
        "in every language"
    );
}

#[tokio::test]
async fn the_notice_that_is_in_force_has_an_address_of_its_own_in_every_language() {
    let mut server = server().await;
    for days in [40, 60] {
        server = server.restart(|config| config.privacy.access_log_days = at_least_one(days));
        for language in Language::ALL.map(Language::as_str) {
            let page = server.page(&format!("/privacy/{language}"), "ja").await;
            assert_eq!(page.status, 200, "{language}");
            assert!(page.text.contains(&format!("<html lang=\"{language}\">")));
            assert!(part(&page.text, "period-access_log").contains(&format!("{days}\u{a0}")), "{language}");
        }
    }
    for path in ["/privacy/it", "/privacy/EN", "/privacy/e", "/privacy/en-GB", "/privacy/%65n%00"] {
        server.page(path, "en").await.refused(404, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn what_changed_is_said_in_whole_words_of_every_language() {
    let server = server().await;
    let one = |config: &mut Config| config.privacy.connection_log_days = at_least_one(1);
    let server = server.restart(one).restart(|config| config.privacy.lookup_log = LookupLog::Off);
    let server = server.restart(|config| config.privacy.lookup_log = LookupLog::Full);
    for language in Language::ALL.map(Language::as_str) {
        let list = server.read(&format!("/privacy?lang={language}")).await;
        let changes: Vec<&str> = list.split("data-change=\"period\">").skip(1).collect();
        let changes: Vec<&str> = changes.iter().filter_map(|rest| rest.split("</li>").next()).collect();
        // The newest first: the log of lookups is kept again, connections for a shorter time.
        for (change, key, figures) in [
            (changes[0], "period_lookup_log", &["5 "][..]),
            (changes[1], "period_connection_log", &["1 ", "100 "]),
        ] {
            assert!(change.starts_with(&unescaped(&words::text(language, "privacy", key))), "{change}");
            assert!(figures.iter().all(|figure| change.contains(figure)), "{change}");
        }
        assert!(!list.contains(" 0 "), "the list must not say that data is kept for 0 days: {list}");
    }
}

#[tokio::test]
async fn operators_own_documents_take_the_place_of_the_notice_and_it_stays_readable() {
    let server = Server::start().await;
    let terms = server.request(Method::GET, &v2("/terms"), None, None).await.ok();
    let ids: Vec<_> = terms["policies"].as_object().expect("policies").keys().cloned().collect();
    assert_eq!(ids, ["terms"]);
    let notice = server.read("/privacy/1/en").await;
    assert!(notice.contains("id.test") && notice.contains(" id=\"controller\""));
    let alice = server.user("alice").await;
    let server = server.restart(|config| config.terms.clear());
    assert!(server.asks(&alice).await, "that is another document");
    let server = server.restart(|config| {
        config.terms.insert("terms".to_owned(), crate::support::terms("1"));
    });
    assert!(!server.asks(&alice).await);
}

#[tokio::test]
async fn the_notice_is_offered_under_the_title_that_its_pages_have() {
    let server = server().await;
    let offered = server.offered().await;
    for language in Language::ALL {
        let code = language.as_str();
        let (name, url) = (&offered[code]["name"], &offered[code]["url"]);
        let version = offered["version"].as_str().expect("a version");
        assert_eq!(*url, json!(format!("https://id.test/privacy/{version}/{code}")));
        let page = server.page(&format!("/privacy/{version}/{code}"), "en").await;
        let title = format!("<title>{} – id.test</title>", name.as_str().expect("a name"));
        assert!(page.text.contains(&title), "{code}: {title}");
    }
}

/// The parts that each text must have, by their HTML identifiers: who is responsible (policy 1.1), the
/// service and what it is not for (2), peers (2.3), legal basis and collection (3.1, 3.2), lookups
/// and periods (3.2.2), visibility and staff (3.3, 3.7, 3.8, 3.11), authorities (3.4), children
/// (3.5), correction and removal (3.1.2, 3.6), processors (3.9), sale (3.10), weaknesses (3.12),
/// complaints (4), changes (1.2, 5), and each right (3.1.3, 3.1.4).
const PARTS: &[&str] = &[
    "short",
    "others",
    "controller",
    "service",
    "collected",
    "visible",
    "peers",
    "processors",
    "lookups",
    "periods",
    "period-binding",
    "period-deleted_binding",
    "period-session",
    "period-visit",
    "period-invitation",
    "period-idle_account",
    "period-consent",
    "period-lookup_log",
    "period-access_log",
    "period-connection_log",
    "period-outbox",
    "period-notice",
    "period-budget",
    "period-audit",
    "period-suppression",
    "period-copy",
    "removal",
    "right-objection",
    "rights",
    "right-informed",
    "right-access",
    "right-rectification",
    "right-erasure",
    "right-restriction",
    "right-portability",
    "right-automated",
    "complaint",
    "children",
    "disclosure",
    "sale",
    "security",
    "changes",
];

/// The text of a part, up to the start of the next part.
fn part<'a>(text: &'a str, id: &str) -> &'a str {
    let from = text.find(&format!(" id=\"{id}\"")).unwrap_or_else(|| panic!("there is no {id}"));
    let rest = &text[from + 5..];
    &rest[..rest.find(" id=\"").unwrap_or(rest.len())]
}

#[tokio::test]
async fn p20_every_fact_and_right_is_there_in_every_language() {
    let server = server().await;
    let mut texts = Vec::new();
    for language in Language::ALL {
        let text = server.read(&format!("/privacy/1/{}", language.as_str())).await;
        assert!(text.contains(&format!("<html lang=\"{}\">", language.as_str())));
        let found: Vec<&str> = text
            .match_indices(" id=\"")
            .map(|(at, _)| text[at + 5..].split('"').next().expect("an id"))
            .collect();
        assert_eq!(found, PARTS, "{language:?}");
        for (id, facts) in [
            (
                "controller",
                &[
                    "Example Society",
                    "1 Example Road, Exampletown",
                    "mailto:privacy@example.org",
                    "Dana Officer",
                    "Rep Limited",
                    "https://imprint.example/",
                ][..],
            ),
            ("collected", &["6"]),
            ("period-lookup_log", &["5 "]),
            ("period-access_log", &["40 "]),
            ("period-connection_log", &["100 "]),
            ("period-deleted_binding", &["20 "]),
            ("period-idle_account", &["200 "]),
            ("period-invitation", &["25 "]),
            ("period-session", &["24 "]),
            ("period-visit", &["30 "]),
            ("period-outbox", &["7 "]),
            ("period-audit", &["365 "]),
            ("removal", &["href=\"/me\"", "20 "]),
            ("right-objection", &["href=\"/me\""]),
            ("right-portability", &["JSON"]),
            ("children", &["16"]),
            (
                "processors",
                &["Example Hosting", "hosts this server", "Sweden", "https://hosting.example/privacy"],
            ),
            ("short", &["Example Society", "20 ", "href=\"/me\""]),
            ("others", &["24 ", "25 ", "href=\"/me\""]),
            ("security", &["TLS", "mailto:privacy@example.org"]),
            ("complaint", &["Example Authority", "https://authority.example/complain"]),
            ("changes", &["href=\"/privacy\""]),
        ] {
            let words = part(&text, id);
            facts.iter().for_each(|fact| {
                assert!(words.contains(fact), "{language:?} {id}: {fact} is not in {words}")
            });
        }
        texts.push(text);
    }
    for id in PARTS {
        let words: BTreeSet<&str> = texts.iter().map(|text| part(text, id)).collect();
        assert_eq!(words.len(), 4, "{id} is translated");
        assert!(words.iter().all(|words| words.len() > 60), "{id} says something");
    }
}

#[tokio::test]
async fn p20_what_the_operator_has_not_said_is_said_plainly() {
    let server = Server::start_with(|config| {
        config.terms.clear();
        config.privacy.lookup_log = LookupLog::Off;
        config.privacy.access_log_days = at_least_one(1);
    });
    let server = server.await;
    for (language, words, one) in [
        ("en", "operator of this server has", "<td>1 day</td>"),
        ("fr", "exploitant de ce serveur n’a", "<td>1 jour</td>"),
        ("de", "Der Betreiber dieses Servers hat", "<td>1 Tag</td>"),
        ("es", "gestiona este servidor no ha", "<td>1 día</td>"),
    ] {
        let text = server.read(&format!("/privacy/1/{language}")).await;
        for id in ["controller", "processors", "security", "complaint"] {
            assert!(part(&text, id).contains(words), "{language} {id}");
        }
        assert_eq!(part(&text, "controller").matches(words).count(), 3, "{language}");
        assert!(!text.contains("period-lookup_log"), "there is no such log");
        assert!(text.contains(one) && !text.contains("mailto:"), "{language}");
    }
}

#[tokio::test]
async fn p20_what_the_operator_says_cannot_become_markup() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=y>{{ lang }}";
    let server = server().await.restart(|config| {
        config.operator.name = evil.to_owned();
        config.operator.postal_address = evil.to_owned();
        config.operator.authority = evil.to_owned();
        config.operator.data_protection_officer = evil.to_owned();
        config.operator.eu_representative = evil.to_owned();
        config.operator.processors[0].country = evil.to_owned();
        config.operator.processors[0].name = evil.to_owned();
        config.operator.processors[0].purpose = evil.to_owned();
    });
    for path in ["/privacy/2/en", "/privacy/2/de", "/privacy/2/fr", "/privacy/2/es", "/privacy?lang=es"] {
        let page = server.page(path, "en").await;
        markup::check(&page.text);
        assert!(!page.text.contains("<script") && !page.text.contains("<img"), "{path}");
        assert!(page.text.contains("&lt;script&gt;"), "it is shown as text: {path}");
    }
}

#[tokio::test]
async fn the_pages_are_whole_careful_and_in_the_readers_language() {
    let server = server().await.restart(|config| config.privacy.access_log_days = at_least_one(60));
    for language in Language::ALL.map(Language::as_str) {
        for path in [
            "/privacy".to_owned(),
            format!("/privacy/1/{language}"),
            format!("/privacy/2/{language}"),
            "/privacy/3/en".to_owned(),
            "/".to_owned(),
            "/c/x".to_owned(),
        ] {
            let page = server.page(&path, language).await;
            let expected = if path == "/privacy/3/en" { "en" } else { language };
            assert!(page.text.contains(&format!("<html lang=\"{expected}\">")), "{path} {language}");
            markup::check(&page.text);
            let policy = page.headers["content-security-policy"].to_str().expect("text");
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
            assert_eq!(page.headers["referrer-policy"], "no-referrer");
            assert_eq!(page.headers["x-content-type-options"], "nosniff");
            let link = format!("<a href=\"/privacy?lang={expected}\">");
            assert!(page.text.contains(&link), "every page leads to the notice: {path}");
            assert!(!page.text.contains("style=") && !page.text.contains("<script"));
            if path.starts_with("/privacy") && page.status == 200 {
                let others = Language::ALL.iter().filter(|other| other.as_str() != language);
                others.for_each(|other| {
                    assert!(page.text.contains(&format!("hreflang=\"{}\"", other.as_str())))
                });
            }
        }
    }
    let reply = server.request(Method::HEAD, "/privacy", None, None).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
}

#[tokio::test]
async fn names_that_no_version_has_lead_to_a_page_that_says_so() {
    let server = server().await;
    let version = server.offered().await["version"].as_str().expect("a version").to_owned();
    for path in [
        "/privacy/2/en".to_owned(),
        "/privacy/0/en".to_owned(),
        "/privacy/01/en".to_owned(),
        "/privacy/-1/en".to_owned(),
        "/privacy/18446744073709551616/en".to_owned(),
        "/privacy/000000000000/en".to_owned(),
        format!("/privacy/{}/en", version.to_uppercase() + "A"),
        format!("/privacy/{version}/it"),
        format!("/privacy/{version}/EN"),
        format!("/privacy/{version}/en.html"),
        format!("/privacy/{version}/%00"),
        "/privacy/..%2f..%2fetc/passwd".to_owned(),
        "/privacy/%2e%2e/en".to_owned(),
        "/privacy/%ff/en".to_owned(),
        "/privacy/<script>/en".to_owned(),
        format!("/privacy/{}/en", "9".repeat(3000)),
    ] {
        let page = server.page(&path, "fr").await;
        assert_eq!(page.status, 404, "{path}");
        if page.headers["content-type"] == "application/json" {
            // The client normalised the path, so it no longer names an edition.
            page.refused(404, "M_UNRECOGNIZED");
            continue;
        }
        assert!(page.text.contains("data-outcome=\"unknown_edition\""), "{path}: {}", page.text);
        assert!(!page.text.contains("script"));
    }
    for path in ["/privacy/", "/privacy/1", "/privacy/1/en/", "/privacy/1/en/x", "/.well-known/other"] {
        server.page(path, "en").await.refused(404, "M_UNRECOGNIZED");
    }
    for path in ["/privacy", "/privacy/1/en", "/.well-known/security.txt"] {
        server.request(Method::POST, path, None, None).await.refused(405, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn p20_security_txt_says_where_weaknesses_are_reported() {
    let path = "/.well-known/security.txt";
    let server = server().await;
    let reply = server.request(Method::GET, path, None, None).await;
    assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        reply.text,
        "Contact: mailto:privacy@example.org\nExpires: 2027-11-11T00:00:00Z\nPreferred-Languages: en\n\
         Canonical: https://id.test/.well-known/security.txt\n"
    );
    let server = server.restart(|config| {
        config.operator.security_contact = "https://example.org/security".to_owned();
        config.mail.default_language = Language::De;
    });
    let reply = server.request(Method::GET, path, None, None).await;
    assert!(reply.text.starts_with("Contact: https://example.org/security\n"), "{}", reply.text);
    assert!(reply.text.contains("\nPreferred-Languages: de, en\n"), "{}", reply.text);
    let server = server.restart(|config| {
        config.operator.contact.clear();
        config.operator.security_contact.clear();
    });
    server.request(Method::GET, path, None, None).await.refused(404, "M_UNRECOGNIZED");
}
