//! The link and the cookie: looking changes nothing, the link works once and for an hour, the page for
//! half an hour, and nothing that leads to them is stored.

use std::time::Duration;

use reqwest::Method;

use super::{cookie_of, form_in, shows};
use crate::support::{Server, files_with};

const ADDRESS: &str = "alice@example.org";

async fn with_alice() -> Server {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, ADDRESS, "secret").await;
    server
}

fn token(link: &str) -> &str {
    link.strip_prefix("/me/visit/").expect("a token")
}

#[tokio::test]
async fn scanners_change_nothing_and_the_button_works_once() {
    let server = with_alice().await;
    let link = server.link_for(ADDRESS).await;
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let reply = server.request(method.clone(), &link, None, None).await;
        let (cookie, attributes) = cookie_of(&reply);
        assert!(cookie.starts_with("__Host-visit-link="), "it opens no page: {cookie}");
        assert_eq!(attributes, ["HttpOnly", "Max-Age=3600", "Path=/", "SameSite=Strict", "Secure"]);
        if method == Method::GET {
            shows(&reply, 200, "me_visit");
            assert!(!reply.text.contains(ADDRESS), "a page that anybody can open names nobody");
        }
    }
    let reply = server.press_open(&format!("{link}?lang=fr")).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["location"]),
        (303, &"/me/data?lang=fr".parse().expect("a value"))
    );
    assert_eq!(reply.headers["cache-control"], "no-store");
    let (secret, attributes) = cookie_of(&reply);
    assert_eq!(attributes, ["HttpOnly", "Max-Age=1800", "Path=/", "SameSite=Strict", "Secure"]);
    let secret = secret.strip_prefix("__Host-visit=").expect("the name");
    assert!(secret.len() >= 43 && secret != token(&link));
    let used = server.request(Method::GET, &link, None, None).await;
    shows(&used, 410, "link_over");
    assert!(!used.headers.contains_key("set-cookie"));
    for hidden in [token(&link), secret] {
        let files = files_with(&server.config.data_dir, hidden.as_bytes());
        assert!(files.iter().all(|file| file.extension().is_some_and(|name| name == "eml")), "{files:?}");
    }
    // The secret of the link is not that of a page, nor the other way round.
    let data = server.see("/me/data", &format!("__Host-visit={}", token(&link))).await;
    shows(&data, 200, "over");
    let swapped = server.request(Method::GET, &format!("/me/visit/{secret}"), None, None).await;
    shows(&swapped, 410, "link_over");
}

#[tokio::test]
async fn a_stranger_cannot_open_his_page_in_another_browser() {
    let server = with_alice().await;
    let (link, other) = (server.link_for(ADDRESS).await, server.link_for(ADDRESS).await);
    let open = async |link: &str, cookie: &str| {
        let reply = server.see(link, cookie).await;
        let cookie = cookie_of(&reply).0.to_owned();
        (cookie, form_in(&reply.text).to_owned())
    };
    // The stranger knows his link and what it shows to him, but not the cookie of the other browser.
    let (stranger, form) = open(&link, "").await;
    let (victim, victims_form) = open(&other, "").await;
    assert_ne!(stranger, victim);
    for (cookie, form) in [
        (None, &*form),
        (None, ""),
        (Some(&*victim), &*form),
        (Some(&*victim), &*victims_form),
        (Some(&*victim), ""),
        (Some("__Host-visit-link="), &*form),
        (Some(&*stranger), token(&link)),
    ] {
        let reply = server.fill(&link, cookie, &[("form", form)]).await;
        shows(&reply, 403, "over");
        assert!(!reply.headers.contains_key("set-cookie"));
    }
    let no_form = server.fill(&link, Some(&stranger), &[]).await;
    shows(&no_form, 403, "over");
    // None of that has used the link up. A browser keeps its secret for a second link.
    let (kept, second) = open(&other, &stranger).await;
    assert_eq!(kept, stranger);
    assert_eq!(server.fill(&other, Some(&stranger), &[("form", &second)]).await.status, 303);
    assert_eq!(server.fill(&link, Some(&stranger), &[("form", &form)]).await.status, 303);
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
}

#[tokio::test]
async fn what_leads_nowhere() {
    let server = with_alice().await;
    let long = format!("/me/visit/{}", "a".repeat(3000));
    for path in ["/me/visit/x", "/me/visit/%00", "/me/visit/%00%ff", &long] {
        shows(&server.request(Method::GET, path, None, None).await, 410, "link_over");
    }
    for fields in [&[][..], &[("form", "")], &[("form", "x")], &[("form", "\u{0}")], &[("other", "x")]] {
        shows(&server.fill("/me/visit/x", None, fields).await, 403, "over");
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
        for page in ["/me/data", "/me/erase"] {
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
        ("/me/visit/x", "GET, HEAD, POST"),
        ("/me/data", "GET, HEAD"),
        ("/me/erase", "GET, HEAD, POST"),
        ("/me/export", "POST"),
        ("/me/withdraw", "POST"),
        ("/me/suppress", "POST"),
        ("/me/allow", "POST"),
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
    let stop = server.links_to(ADDRESS)[0].stop_link();
    let mut pages: Vec<(String, Option<&String>)> =
        ["/me", &link, &stop].map(|path| (format!("{path}?"), None)).into();
    let other = server.guest(ADDRESS).await;
    pages.extend(
        ["/me/data?", "/me/data?done=suppressed&", "/me/erase?"]
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
