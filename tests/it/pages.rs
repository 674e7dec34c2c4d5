//! The pages behind mailed links: opening one changes nothing, the button does. Every outcome is a page in the
//! reader's language, with security headers.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::{
    Reply, Server, User, accept_terms,
    homeserver::{Answer, user_info_path},
    markup, parts, v2, words,
};

impl Reply {
    #[track_caller]
    fn page(&self, status: u16, outcome: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert!(self.text.contains(&format!("data-outcome=\"{outcome}\"")), "not {outcome}: {}", self.text);
        assert!(!self.text.to_lowercase().contains("<script"), "no script");
        let policy = self.headers["content-security-policy"].to_str().expect("text");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(self.headers["referrer-policy"], "no-referrer");
        assert_eq!(self.headers["cache-control"], "no-store");
        assert_eq!(self.headers["x-content-type-options"], "nosniff");
    }
}

impl Server {
    async fn open(&self, link: &str) -> Reply {
        self.request(Method::GET, link, None, None).await
    }

    /// Presses a button of the page that `link` opened.
    async fn press(&self, link: &str, decision: &str) -> Reply {
        let form = format!("decision={decision}");
        let request = self.build(Method::POST, link);
        self.send(request.header("content-type", "application/x-www-form-urlencoded").body(form)).await
    }

    async fn mailed_link(&self, user: &User) -> (String, String) {
        let sid = self.request_token(user, "alice@example.org", "secret", 1).await;
        (sid, self.question().link())
    }

    async fn validated(&self, user: &User, sid: &str) -> Reply {
        self.get(&format!("/3pid/getValidated3pid?sid={sid}&client_secret=secret"), user).await
    }
}

#[tokio::test]
async fn opening_asks_and_confirm_validates() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (sid, link) = server.mailed_link(&alice).await;
    for _ in 0..3 {
        let page = server.open(&link).await;
        page.page(200, "ask");
        assert!(markup::names(&page.text, &alice.id), "it says who asked: {}", page.text);
        assert!(page.text.contains("<bdi>alice@example.org</bdi>"), "and for which address");
    }
    server.validated(&alice, &sid).await.refused(400, "M_SESSION_NOT_VALIDATED");
    server.press(&link, "confirm").await.page(200, "verified");
    let validated = server.validated(&alice, &sid).await.ok();
    assert_eq!((&validated["medium"], &validated["address"]), (&json!("email"), &json!("alice@example.org")));
    server.open(&link).await.page(200, "used");
    server.press(&link, "confirm").await.page(200, "verified");
}

#[tokio::test]
async fn this_was_not_me_ends_the_session_even_after_confirming() {
    for confirmed_before in [false, true] {
        let server = Server::start().await;
        let alice = server.user("alice").await;
        let (sid, link) = server.mailed_link(&alice).await;
        if confirmed_before {
            server.press(&link, "confirm").await.page(200, "verified");
        }
        server.press(&link, "withdraw").await.page(200, "withdrawn");
        server.open(&link).await.page(200, "withdrawn");
        server.press(&link, "confirm").await.page(410, "expired");
        let bind = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id });
        server.post("/3pid/bind", &alice, &bind).await.refused(400, "M_SESSION_EXPIRED");
    }
}

#[tokio::test]
async fn this_was_not_me_withdraws_what_was_published() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    let link = server.question().link();
    assert_eq!(server.find(&bob, "alice@example.org").await, Some(alice.id));
    server.press(&link, "withdraw").await.page(200, "withdrawn");
    assert_eq!(server.find(&bob, "alice@example.org").await, None);
    let about = json!({ "since": 0, "about": { "address": "alice@example.org" } });
    let audit = server.control("/audit", &about).await;
    assert_eq!((&audit[0]["deed"], &audit[0]["by"]), (&json!("unbinding"), &json!("owner")));
}

#[tokio::test]
async fn this_was_not_me_leaves_what_somebody_else_has_published_since() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "shared@example.org", "alices").await;
    let link = server.question().link();
    server.bind(&bob, "shared@example.org", "bobs").await;
    server.press(&link, "withdraw").await.page(200, "withdrawn");
    assert_eq!(server.find(&alice, "shared@example.org").await, Some(bob.id));
}

/// The link with another token.
fn wrong_token(link: &str) -> String {
    let (rest, last) = link.split_at(link.len() - 2);
    format!("{rest}{}", if last == "AA" { "BB" } else { "AA" })
}

#[tokio::test]
async fn links_that_are_over_or_none() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (_, link) = server.mailed_link(&alice).await;
    let other_token = wrong_token(&link);
    let long = format!("/c/{}", "x".repeat(3000));
    for bad in ["/c/x", "/c/%00", "/c/%C3%A9%ff", "/c/=3D", &link[..24], &link[..25], &long, &other_token] {
        server.open(bad).await.page(404, "invalid");
        server.press(bad, "confirm").await.page(404, "invalid");
    }
    server.press(&other_token, "withdraw").await.page(404, "invalid");
    server.press(&link, "dance").await.page(404, "invalid");
    let nothing = server.build(Method::POST, &link).body("\u{0}");
    server.send(nothing).await.page(404, "invalid");
    server.clock.forward(Duration::from_secs(24 * 3600));
    server.open(&link).await.page(410, "expired");
    server.press(&link, "confirm").await.page(410, "expired");
    server.press(&link, "withdraw").await.page(410, "expired");
}

#[tokio::test]
async fn only_who_holds_the_link_learns_of_the_address_and_its_stop_link() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (_, link) = server.mailed_link(&alice).await;
    let wrong = wrong_token(&link);
    let stop = server.question().stop_link();
    let (_, homeserver) = parts(&alice.id);
    for decision in ["look", "confirm", "look", "withdraw", "look"] {
        for page in [server.open(&wrong).await, server.press(&wrong, decision).await] {
            for secret in ["alice@example.org", homeserver, &stop, "/stop/"] {
                assert!(!page.text.contains(secret), "{decision}: {}", page.text);
            }
        }
        if decision != "look" {
            assert_eq!(server.press(&link, decision).await.status, 200);
        }
    }
}

#[tokio::test]
async fn wrong_tokens_on_the_page_count_as_well() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (_, link) = server.mailed_link(&alice).await;
    let wrong = wrong_token(&link);
    for _ in 0..5 {
        server.press(&wrong, "confirm").await.page(404, "invalid");
    }
    server.press(&link, "confirm").await.page(410, "expired");
}

#[tokio::test]
async fn pages_speak_the_readers_language() {
    let server =
        Server::start_with(|config| config.mail.default_language = bindery::domain::language::Language::Es);
    let server = server.await;
    let alice = server.user("alice").await;
    let (_, link) = server.mailed_link(&alice).await;
    assert_eq!(server.question().subject, words::subject("es", "validate"), "the operator's language");
    let read = async |link: &str, accept: &str| {
        server.send(server.build(Method::GET, link).header("accept-language", accept)).await.text
    };
    for (link, accept, language) in [
        (link.clone(), "de-AT,en;q=0.5", "de"),
        (link.clone(), "fr", "fr"),
        (link.clone(), "ja", "es"),
        (format!("{link}?lang=en"), "fr", "en"),
        (format!("{link}?lang=xx"), "fr", "fr"),
    ] {
        let page = read(&link, accept).await;
        assert!(page.contains(&format!("<html lang=\"{language}\">")), "{page}");
        assert!(page.contains(&words::text(language, "ask", "withdraw")), "{page}");
    }
}

#[tokio::test]
async fn the_specifications_own_link_answers_with_a_page() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (sid, _) = server.mailed_link(&alice).await;
    let token = server.mails()[0].token();
    let path = |token: &str| {
        v2(&format!("/validate/email/submitToken?sid={sid}&client_secret=secret&token={token}"))
    };
    let page = server.open(&path("wrong")).await;
    assert_eq!(page.status, 404);
    assert!(page.text.contains("data-outcome=\"invalid\""));
    let page = server.open(&path(&token)).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("data-outcome=\"verified\""));
    assert_eq!(page.headers["referrer-policy"], "no-referrer", "it is a page, so it has the headers of one");
    server.validated(&alice, &sid).await.ok();
}

#[tokio::test]
async fn people_are_sent_on_only_where_the_operator_allows() {
    let allowed = "https://app.test/";
    let server =
        Server::start_with(|config| config.validation.next_link_prefixes = vec![allowed.to_owned()]).await;
    let alice = server.user("alice").await;
    for (number, (link, goes)) in [
        ("https://app.test/done?x=1", true),
        ("https://app.test.evil.test/", false),
        ("https://evil.test/https://app.test/", false),
        ("http://app.test/", false),
        ("javascript:alert(1)", false),
        ("https://app.test/\r\nSet-Cookie: a=b", false),
        ("https://app.test/\"><script>", false),
        ("//app.test/", false),
    ]
    .into_iter()
    .enumerate()
    {
        server.clock.forward(Duration::from_secs(3600));
        let body = json!({
            "email": format!("alice{number}@example.org"), "client_secret": "s", "send_attempt": 1, "next_link": link,
        });
        server.post("/validate/email/requestToken", &alice, &body).await.ok();
        let page = server.press(&server.question().link(), "confirm").await;
        match goes {
            true => assert!(page.status == 303 && page.headers["location"] == link),
            false => page.page(200, "verified"),
        }
    }
}

#[tokio::test]
async fn pages_lead_to_themselves_in_the_other_languages() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let (_, link) = server.mailed_link(&alice).await;
    let leads = |page: &Reply, to: &str| {
        let text = page.text.replace("&#x2f;", "/").replace("&amp;", "&");
        assert_eq!(text.matches("hreflang=").count(), 3, "{text}");
        for language in ["fr", "de", "es"] {
            assert!(text.contains(&format!("href=\"{to}lang={language}\"")), "{to}: {text}");
        }
    };
    let same = &format!("{link}?");
    leads(&server.open("/").await, "/?");
    leads(&server.open(&link).await, same);
    leads(&server.open("/c/x").await, "/?");
    leads(&server.press(&link, "dance").await, same);
    leads(&server.press(&link, "confirm").await, same);
    leads(&server.open(&link).await, same);
    leads(&server.open("/privacy/7/en").await, "/privacy?");
}

#[tokio::test]
async fn the_front_page_says_what_this_is() {
    let server = Server::start().await;
    let page = server.open("/").await;
    assert_eq!(page.status, 200);
    let text = page.text.replace("&#x2f;", "/");
    assert!(
        text.contains("https://id.test")
            && page.text.contains(&format!("<h1>{}</h1>", words::text("en", "front", "title")))
    );
    for (asset, kind) in [("style.css", "text/css"), ("icon.svg", "image/svg+xml")] {
        let reply = server.open(&format!("/assets/{asset}")).await;
        assert!(reply.headers["content-type"].to_str().expect("text").starts_with(kind));
        assert_eq!(reply.status, 200);
    }
    for none in ["/assets/none.css", "/assets/..%2fpages%2ffront.html", "/assets/%2e%2e%2fi18n%2fen.toml"] {
        server.open(none).await.refused(404, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn no_line_breaks_within_the_word_for_email() {
    let server = Server::start().await;
    for (language, word, whole) in [("fr", "e-mail", "e-\u{2060}mail"), ("de", "E-Mail", "E-\u{2060}Mail")] {
        for path in [format!("/me?lang={language}"), format!("/privacy/1/{language}")] {
            let page = server.open(&path).await.text;
            assert!(page.contains(whole) && !page.contains(word), "{page}");
        }
    }
    // What somebody typed stays as it is.
    let request =
        server.build(Method::POST, "/me?lang=fr").header("content-type", "application/x-www-form-urlencoded");
    let page = server.send(request.body("address=my e-mail")).await.text;
    assert!(page.contains("value=\"my e-mail\""), "{page}");
}

#[tokio::test]
async fn the_page_says_what_confirming_lets_the_account_do_and_it_does_no_more() {
    let server = Server::start().await;
    let (victim, mallory) = (server.user("victim").await, server.user("mallory").await);
    server.bind(&victim, "alice@example.org", "victims").await;
    let own = server.question().link();
    assert!(!server.open(&own).await.text.contains("data-published"));
    let (sid, link) = server.mailed_link(&mallory).await;
    for outcome in ["ask", "used"] {
        let page = server.open(&link).await;
        page.page(200, outcome);
        assert!(
            markup::names(&page.text, &mallory.id) && markup::names(&page.text, &victim.id),
            "{}",
            page.text
        );
        assert!(page.text.contains("data-published"));
        server.press(&link, "confirm").await.page(200, "verified");
    }
    // The session of an account removes only what this account published.
    for mxid in [&victim.id, &mallory.id] {
        let threepid = json!({ "medium": "email", "address": "alice@example.org" });
        let unbind = json!({ "sid": sid, "client_secret": "secret", "mxid": mxid, "threepid": threepid });
        let reply = server.request(Method::POST, &v2("/3pid/unbind"), None, Some(&unbind)).await;
        assert_eq!(reply.status, if *mxid == victim.id { 403 } else { 200 }, "{}", reply.text);
        assert_eq!(server.find(&mallory, "alice@example.org").await.as_ref(), Some(&victim.id));
    }
    let bind = json!({ "sid": sid, "client_secret": "secret", "mxid": mallory.id });
    server.post("/3pid/bind", &mallory, &bind).await.ok();
    assert_eq!(server.find(&victim, "alice@example.org").await, Some(mallory.id));
    let audit =
        server.control("/audit", &json!({ "since": 0, "about": { "address": "alice@example.org" } })).await;
    assert_eq!((&audit[0]["deed"], &audit[0]["by"]), (&json!("replacement"), &json!("account")));
}

#[tokio::test]
async fn an_account_is_shown_as_it_is_and_not_as_it_looks() {
    let server = Server::start().await;
    let name = server.homeserver.name().to_owned();
    let register = async |id: &str| {
        server.homeserver.answer(&user_info_path("openid"), Answer::Json(200, json!({ "sub": id })));
        server.register_with(&name, "openid").await
    };
    for hidden in ["\u{202e}moc.elpmaxe", "\u{3164}", "\u{200b}", "\u{2066}", "\u{e0041}"] {
        register(&format!("@alice{hidden}:{name}")).await.refused(401, "M_UNAUTHORIZED");
    }
    for (localpart, shown) in [
        ("alice\u{2236}example.com", "alice\\u{2236}example.com"),
        ("\u{430}lice", "\\u{430}lice"),
        ("example.com/login", "example.com\\u{2f}login"),
    ] {
        let id = format!("@{localpart}:{name}");
        let token = register(&id).await.ok()["token"].as_str().expect("a token").to_owned();
        accept_terms(&server.base, &token).await;
        let user = User { id, token };
        server.clock.forward(Duration::from_secs(24 * 3600));
        let (_, link) = server.mailed_link(&user).await;
        let (page, mail) = (server.open(&link).await, server.question());
        let shown = format!("@{shown}:{name}");
        assert!(markup::names(&page.text, &shown), "{}", page.text);
        assert!(mail.names(&shown), "{}", mail.text);
        for text in [&page.text, &mail.text, mail.html.as_ref().expect("HTML")] {
            assert!(!text.contains(localpart), "{text}");
        }
    }
}
