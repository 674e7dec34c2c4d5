//! The stop link in every mail: it needs no row, opening it changes nothing, one click works without the page, and it
//! opts in again as often as the owner wants.

use std::time::Duration;

use bindery::{
    domain::{
        audit::{By, Deed, Entry, earlier_subject_of_address},
        server_name::ServerName,
        threepid::Address,
        time::Millis,
    },
    ops::{address::suppression, genesis, person::audit},
    store::Store,
};
use reqwest::Method;
use serde_json::json;

use crate::support::{Mail, Reply, Server, TestClock, User, core::core_on, files_with, markup, words};

const ADDRESS: &str = "carol@example.org";
const DAY: Duration = Duration::from_secs(24 * 3600);

#[track_caller]
fn shows(reply: &Reply, status: u16, outcome: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    assert!(reply.text.contains(&format!("data-outcome=\"{outcome}\"")), "not {outcome}: {}", reply.text);
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(reply.headers["referrer-policy"], "no-referrer");
    assert!(!reply.headers.contains_key("set-cookie") && !reply.text.contains("carol"));
    markup::check(&reply.text);
}

impl Server {
    async fn decide(&self, link: &str, body: &str) -> Reply {
        let request = self.build(Method::POST, link).body(body.to_owned());
        self.send(request.header("content-type", "application/x-www-form-urlencoded")).await
    }

    /// Asks to validate the address, and gives how many mails that sent.
    async fn sends(&self, user: &User, secret: &str) -> usize {
        let before = self.mails().len();
        self.clock.forward(DAY);
        self.request_token(user, ADDRESS, secret, 1).await;
        self.mails().len() - before
    }
}

/// The value of a header of a mail.
fn header<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    raw.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

fn raw(mail: &Mail) -> String {
    let (head, body) = std::str::from_utf8(&mail.raw).expect("text").split_once("\r\n\r\n").expect("headers");
    format!("{}\r\n\r\n{body}", head.replace("\r\n ", " "))
}

#[tokio::test]
async fn the_owner_stops_and_allows_messages_when_nothing_is_stored() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let stored = server.invite(&alice, ADDRESS, "!room:hs.test").await;
    let link = server.mail_to(ADDRESS, 0).await.stop_link();
    let path = format!("/_bindery/v1/invitations/{}", stored["token"].as_str().expect("a token"));
    assert_eq!(server.request(Method::DELETE, &path, Some(&alice.token), None).await.status, 200);
    for round in 0..3 {
        for method in [Method::GET, Method::HEAD, Method::GET] {
            let page = server.request(method.clone(), &link, None, None).await;
            assert_eq!(page.status, 200);
            if method == Method::GET {
                shows(&page, 200, "stop");
                assert!(page.text.contains(&words::text("en", "stop", "what")), "{}", page.text);
            }
        }
        assert_eq!(server.sends(&alice, &format!("open{round}")).await, 1, "looking stops nothing");
        shows(&server.decide(&link, "decision=stop").await, 200, "stopped");
        shows(&server.decide(&link, "decision=stop").await, 200, "stopped");
        shows(&server.request(Method::GET, &link, None, None).await, 200, "stopped");
        assert_eq!(server.sends(&alice, &format!("closed{round}")).await, 0);
        shows(&server.decide(&link, "decision=allow").await, 200, "stop");
        shows(&server.decide(&link, "decision=allow").await, 200, "stop");
    }
    let about = json!({ "since": 0, "about": { "address": ADDRESS } });
    let audit = server.control("/audit", &about).await;
    let deeds: Vec<&str> =
        audit.as_array().expect("rows").iter().map(|row| row["deed"].as_str().expect("a deed")).collect();
    let pairs = ["suppression", "suppression_lifted"].repeat(3);
    assert_eq!(deeds, [&["invitation_cancelled"], &pairs[..]].concat(), "one entry for each change");
    let token = link.strip_prefix("/stop/").expect("a token");
    let files = files_with(&server.config.data_dir, token.as_bytes());
    assert!(files.iter().all(|file| file.extension().is_some_and(|name| name == "eml")), "{files:?}");
}

#[tokio::test]
async fn a_mail_program_stops_messages_with_one_click() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.request_token(&alice, ADDRESS, "secret", 1).await;
    let link = server.question().stop_link();
    let multipart =
        "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n";
    for (kind, body) in [
        ("application/x-www-form-urlencoded", "List-Unsubscribe=One-Click"),
        ("multipart/form-data; boundary=b", multipart),
    ] {
        let click = server.build(Method::POST, &link).header("content-type", kind).body(body);
        shows(&server.send(click).await, 200, "stopped");
        shows(&server.decide(&link, "decision=allow").await, 200, "stop");
    }
}

#[tokio::test]
async fn a_link_that_this_server_did_not_make_stops_nothing() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.request_token(&alice, ADDRESS, "secret", 1).await;
    let link = server.question().stop_link();
    let (rest, last) = link.split_at(link.len() - 4);
    let wrong = format!("{rest}{}", if last == "AAAA" { "BBBB" } else { "AAAA" });
    let (long, short) = (format!("/stop/{}", "A".repeat(3000)), &link[..link.len() - 1]);
    for path in [&*wrong, &*long, short, "/stop/x", "/stop/%00", "/stop/%ff", "/stop/%C3%A9", "/stop/=3D"] {
        shows(&server.request(Method::GET, path, None, None).await, 404, "invalid");
        shows(&server.decide(path, "decision=stop").await, 404, "invalid");
    }
    for body in ["", "decision=", "decision=dance", "\u{0}", "List-Unsubscribe=", "One-Click", "a=b&%ff"] {
        shows(&server.decide(&link, body).await, 400, "invalid");
    }
    server.decide(&link, &"a".repeat(100_000)).await.refused(413, "M_TOO_LARGE");
    server.request(Method::DELETE, &link, None, None).await.refused(405, "M_UNRECOGNIZED");
    assert_eq!(server.sends(&alice, "later").await, 1, "nothing of that has stopped messages");
}

#[tokio::test]
async fn every_mail_has_the_stop_link_of_its_recipient() {
    let server = Server::start_with(|config| config.privacy.notify_owners = true).await;
    let (alice, carol) = (server.user("alice").await, server.user("carol").await);
    server.invite(&alice, ADDRESS, "!room:hs.test").await;
    server.mail_to(ADDRESS, 0).await;
    server.bind(&carol, ADDRESS, "secret").await;
    server.mail_to(ADDRESS, 2).await;
    server.decide("/me", &format!("address={ADDRESS}")).await;
    server.mail_to(ADDRESS, 3).await;
    server.request(Method::DELETE, "/_bindery/v1/account", Some(&carol.token), None).await;
    server.mail_to(ADDRESS, 4).await;
    let link = server.mails()[0].stop_link();
    for mail in server.mails() {
        let (url, raw) = (format!("https://id.test{link}"), raw(&mail));
        assert!(mail.text.lines().any(|line| line == url), "{}", mail.text);
        assert!(mail.html.expect("HTML").contains(&format!("href=\"{url}\"")));
        assert_eq!(header(&raw, "List-Unsubscribe"), Some(&*format!("<{url}>")));
        assert_eq!(header(&raw, "List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
    }
    server.request_token(&alice, "dave@example.org", "secret", 1).await;
    assert_ne!(server.question().stop_link(), link, "another address has another link");
}

#[tokio::test]
async fn without_https_a_mail_has_no_headers_for_one_click() {
    let server = Server::start_with(|config| config.public_base_url = "http://id.test".to_owned()).await;
    let alice = server.user("alice").await;
    server.request_token(&alice, ADDRESS, "secret", 1).await;
    let mail = server.question();
    assert!(!raw(&mail).contains("List-Unsubscribe") && mail.text.contains("http://id.test/stop/"));
}

#[tokio::test]
async fn what_was_stored_before_there_were_stop_links_still_holds() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let name = ServerName::parse("id.test").expect("a name");
    let store = Store::open(dir.path(), 1 << 20, &name, || genesis(Millis(1))).expect("a database");
    let address = Address::email(ADDRESS).expect("an address");
    let key = store.read().session_key().expect("a key");
    let earlier = key.mac(&[b"suppressed", b"email", ADDRESS.as_bytes()]);
    let subject = Some(earlier_subject_of_address(&key, &address));
    let written = store.write(move |tables| {
        tables.suppress(&earlier, Millis(7))?;
        tables.put_audit(&Entry { at: Millis(7), deed: Deed::Suppression, by: By::Owner, subject })
    });
    written.await.expect("written");
    let core = core_on(store, TestClock::new()).await;
    let since = || suppression::since(&core, &address).expect("readable");
    assert_eq!(since(), Some(Millis(7)));
    suppression::suppress(&core, address.clone(), By::Owner).await.expect("written");
    assert_eq!(since(), Some(Millis(7)), "it has opted out already");
    let lifted = suppression::lift(&core, address.clone(), By::Owner).await.expect("written");
    assert_eq!((lifted, since()), (Some(Millis(7)), None));
    let link = suppression::stop_link(&core, &address);
    let token =
        suppression::read_stop_link(&core, link.rsplit('/').next().expect("a token")).expect("a link");
    suppression::stop(&core, token).await.expect("written");
    assert!(since().is_some(), "a link and an address lead to the same row");
    let audit = audit::list(&core, Millis(0), Some(audit::subjects_of(&core, &address))).await.expect("rows");
    let deeds: Vec<Deed> = audit.iter().map(|entry| entry.deed).collect();
    assert_eq!(deeds, [Deed::Suppression, Deed::SuppressionLifted, Deed::Suppression]);
}
