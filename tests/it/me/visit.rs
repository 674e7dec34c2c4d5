//! The link and the cookie: looking changes nothing, the link works once and for an hour, the page for
//! half an hour, and nothing that leads to them is stored.

use std::time::Duration;

use reqwest::Method;

use super::{cookie_of, shows};
use crate::support::{Server, files_with};

const ADDRESS: &str = "alice@example.org";

async fn with_alice() -> Server {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, ADDRESS, "secret").await;
    server
}

fn token(link: &str) -> &str {
    link.split(['?', '&']).find_map(|pair| pair.strip_prefix("token=")).expect("a token")
}

#[tokio::test]
async fn scanners_change_nothing_and_the_button_works_once() {
    let server = with_alice().await;
    let link = server.link_for(ADDRESS).await;
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let reply = server.request(method.clone(), &link, None, None).await;
        assert!(!reply.headers.contains_key("set-cookie"));
        if method == Method::GET {
            shows(&reply, 200, "me_visit");
            assert!(!reply.text.contains(ADDRESS), "a page that anybody can open names nobody");
        }
    }
    let reply = server.fill("/me/visit?lang=fr", None, &[("token", token(&link))]).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["location"]),
        (303, &"/me/data?lang=fr".parse().expect("a value"))
    );
    assert_eq!(reply.headers["cache-control"], "no-store");
    let (secret, attributes) = cookie_of(&reply);
    assert_eq!(attributes, ["HttpOnly", "Max-Age=1800", "Path=/", "SameSite=Strict", "Secure"]);
    let secret = secret.strip_prefix("__Host-visit=").expect("the name");
    assert!(secret.len() >= 43 && secret != token(&link));
    for method in [Method::GET, Method::POST] {
        let used = match method {
            Method::GET => server.request(Method::GET, &link, None, None).await,
            _ => server.fill("/me/visit", None, &[("token", token(&link))]).await,
        };
        shows(&used, 410, "link_over");
        assert!(!used.headers.contains_key("set-cookie"));
    }
    for hidden in [token(&link), secret] {
        let files = files_with(&server.config.data_dir, hidden.as_bytes());
        assert!(files.iter().all(|file| file.extension().is_some_and(|name| name == "eml")), "{files:?}");
    }
    // The secret of the link is not that of a page, nor the other way round.
    let data = server.see("/me/data", &format!("__Host-visit={}", token(&link))).await;
    shows(&data, 200, "over");
    let swapped = server.fill("/me/visit", None, &[("token", secret)]).await;
    shows(&swapped, 410, "link_over");
}

#[tokio::test]
async fn links_and_pages_end() {
    let server = with_alice().await;
    let link = server.link_for(ADDRESS).await;
    server.clock.forward(Duration::from_secs(3599));
    let guest = server.follow(&link).await;
    server.clock.forward(Duration::from_secs(1799));
    shows(&server.see("/me/data", &guest.cookie).await, 200, "me_data");
    server.clock.forward(Duration::from_secs(1));
    shows(&server.see("/me/data", &guest.cookie).await, 200, "over");
    shows(&server.act(&guest, "/me/export", &[]).await, 403, "over");
    let link = server.link_for(ADDRESS).await;
    server.clock.forward(Duration::from_secs(3600));
    shows(&server.request(Method::GET, &link, None, None).await, 410, "link_over");
    shows(&server.fill("/me/visit", None, &[("token", token(&link))]).await, 410, "link_over");
}

#[tokio::test]
async fn what_leads_nowhere() {
    let server = with_alice().await;
    let long = format!("/me/visit?token={}", "a".repeat(3000));
    for path in ["/me/visit", "/me/visit?token=", "/me/visit?token=x", "/me/visit?token=%00%ff", &long] {
        shows(&server.request(Method::GET, path, None, None).await, 410, "link_over");
    }
    for fields in [&[][..], &[("token", "")], &[("token", "x")], &[("token", "\u{0}")], &[("other", "x")]] {
        shows(&server.fill("/me/visit", None, fields).await, 410, "link_over");
    }
    for cookie in [
        "",
        "__Host-visit",
        "__Host-visit=",
        "__Host-visit=x",
        "visit=x; ;=; __Host-visit=%00",
        "=;=;=",
        &"a".repeat(4000),
    ] {
        for page in ["/me/data", "/me/erase", "/me/suppress"] {
            shows(&server.see(page, cookie).await, 200, "over");
        }
    }
    // The cookie is found between malformed ones, which another site of the same domain may set.
    let guest = server.guest(ADDRESS).await;
    let beside = format!("a; =b; c=%ff; {}; d=\"; ;", guest.cookie);
    shows(&server.see("/me/data", &beside).await, 200, "me_data");
    let garbage = server.build(Method::GET, "/me/data").header("cookie", &b"__Host-visit=\xff\xfe"[..]);
    shows(&server.send(garbage).await, 200, "over");
    for (path, allowed) in [
        ("/me", "GET, HEAD, POST"),
        ("/me/visit", "GET, HEAD, POST"),
        ("/me/data", "GET, HEAD"),
        ("/me/erase", "GET, HEAD, POST"),
        ("/me/export", "POST"),
        ("/me/withdraw", "POST"),
        ("/me/suppress", "GET, HEAD, POST"),
        ("/me/language", "POST"),
        ("/me/close", "POST"),
    ] {
        let reply = server.request(Method::DELETE, path, None, None).await;
        assert_eq!(reply.headers["allow"], allowed);
        reply.refused(405, "M_UNRECOGNIZED");
        if allowed.contains("POST") {
            let huge = server.build(Method::POST, path).body("a".repeat(100_000));
            server.send(huge).await.refused(413, "M_TOO_LARGE");
        }
    }
}

#[tokio::test]
async fn every_page_speaks_every_language_and_leads_to_the_others() {
    let server = with_alice().await;
    let front = server.request(Method::GET, "/", None, None).await;
    assert!(front.text.contains("href=\"/me?lang=en\""), "the front page leads here");
    let link = server.link_for(ADDRESS).await;
    let link = link.strip_suffix("lang=en").expect("a language");
    let mut pages = vec![("/me?".to_owned(), None), (link.to_owned(), None)];
    let other = server.guest(ADDRESS).await;
    pages.extend(
        ["/me/data?", "/me/data?done=suppressed&", "/me/erase?", "/me/suppress?"]
            .map(|path| (path.to_owned(), Some(&other.cookie))),
    );
    for (path, cookie) in pages {
        let mut seen = Vec::new();
        for language in ["en", "fr", "de", "es"] {
            let page = server.see(&format!("{path}lang={language}"), cookie.map_or("", String::as_str)).await;
            assert_eq!(page.status, 200);
            assert!(page.text.contains(&format!("<html lang=\"{language}\">")));
            assert!(page.text.contains("<nav class=\"languages\" aria-label="));
            assert_eq!(page.text.matches("hreflang=").count(), 3);
            let (_, heading) = page.text.split_once("<h1>").expect("a heading");
            seen.push(heading.split_once("</h1>").expect("its end").0.to_owned());
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 4, "{path}: {seen:?}");
    }
}
