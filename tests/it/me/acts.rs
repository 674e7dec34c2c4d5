//! The buttons of the page: nobody else presses them, each does what it says, and none shows or touches
//! anything beyond the one address.

use std::time::Duration;

use bindery::config::LookupLog;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Guest, cookie_of, shows, visits};
use crate::support::{Server, User, at_least_one, markup, program::bindery, v2, words};

const ADDRESS: &str = "alice@example.org";
const OTHER: &str = "second@example.net";
const BUTTONS: [(&str, &[(&str, &str)]); 7] = [
    ("/me/export", &[]),
    ("/me/withdraw", &[]),
    ("/me/erase", &[("sure", "yes")]),
    ("/me/suppress", &[]),
    ("/me/allow", &[]),
    ("/me/language", &[("language", "de")]),
    ("/me/close", &[]),
];

/// alice, who has published two addresses, and bob, who looks.
async fn with_alice() -> (Server, User, User) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, ADDRESS, "secret").await;
    server.bind(&alice, OTHER, "secret").await;
    (server, alice, bob)
}

async fn copy_of(server: &Server, guest: &Guest) -> Value {
    let reply = server.act(guest, "/me/export", &[]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.headers["content-disposition"], "attachment; filename=\"my-data.json\"");
    assert_eq!(reply.headers["cache-control"], "no-store");
    reply.json()
}

/// What the audit says that was done.
fn deeds(copy: &Value) -> Vec<&str> {
    let rows = copy["audit"].as_array().expect("rows").iter();
    rows.map(|row| row["deed"].as_str().expect("a deed")).collect()
}

#[tokio::test]
async fn nobody_else_presses_the_buttons() {
    let (server, alice, bob) = with_alice().await;
    let (guest, other) = (server.guest(ADDRESS).await, server.guest(OTHER).await);
    let with = |cookie: &str, form: &str| Guest { cookie: cookie.to_owned(), form: form.to_owned() };
    let strangers = [
        with("", &guest.form),
        with(&guest.cookie, ""),
        with(&guest.cookie, "wrong"),
        with(&guest.cookie, &other.form),
        with(&other.cookie, &guest.form),
        with(&guest.cookie, guest.cookie.strip_prefix("__Host-visit=").expect("the name")),
    ];
    for stranger in &strangers {
        for (path, fields) in BUTTONS {
            shows(&server.act(stranger, path, fields).await, 403, "over");
        }
    }
    for (path, fields) in BUTTONS {
        shows(&server.fill(path, Some(&guest.cookie), fields).await, 403, "over");
    }
    // Without the second question, or with nonsense for a language, nothing happens either.
    for fields in [&[][..], &[("sure", "no")]] {
        shows(&server.act(&guest, "/me/erase", fields).await, 403, "over");
    }
    shows(&server.act(&guest, "/me/language", &[("language", "klingon")]).await, 403, "over");
    for address in [ADDRESS, OTHER] {
        assert_eq!(server.find(&bob, address).await, Some(alice.id.clone()));
    }
    let copy = copy_of(&server, &guest).await;
    assert_eq!(copy["not_written_to_since"], json!(null));
    assert_eq!(copy["bindings"][0]["language"], "en");
    assert_eq!(deeds(&copy), ["page_view", "export"], "this copy is the first");
}

#[tokio::test]
async fn a_mailbox_that_changed_hands_shows_one_address_and_no_account() {
    let (server, alice, bob) = with_alice().await;
    server.request_token(&alice, "third@example.net", "secret", 1).await;
    server.invite(&alice, "carol@example.org", "!alices:hs.test").await;
    let guest = server.guest(ADDRESS).await;
    let page = server.see("/me/data", &guest.cookie).await;
    let copy = copy_of(&server, &guest).await;
    for text in [page.text, copy.to_string()] {
        assert!(text.contains(ADDRESS) && (text.contains(&alice.id) || markup::names(&text, &alice.id)));
        for others in [OTHER, "third@", "carol@", "!alices", &bob.id, &alice.token] {
            assert!(!text.contains(others), "{others}: {text}");
        }
    }
}

#[tokio::test]
async fn the_copy_is_what_the_page_shows() {
    let (server, alice, bob) = with_alice().await;
    server.invite(&bob, "carol@example.org", "!room:hs.test").await;
    let guest = server.guest("carol@example.org").await;
    let page = server.see("/me/data", &guest.cookie).await;
    assert!(markup::names(&page.text, "@room:hs.test") && !page.text.contains(">bob<"), "{}", page.text);
    let copy = copy_of(&server, &guest).await;
    assert_eq!(copy["lookups"], json!([]));
    assert_eq!(copy["invitations_received"][0]["room_id"], "!room:hs.test");
    let schema = serde_json::from_str(include_str!("../../../docs/export.schema.json")).expect("JSON");
    assert!(jsonschema::validator_for(&schema).expect("a schema").is_valid(&copy), "{copy}");
    let page = server.see("/me/data", &guest.cookie).await;
    assert!(page.text.contains("data-deed=\"export\""), "{}", page.text);
    let guest = server.guest(ADDRESS).await;
    let page = server.see("/me/data", &guest.cookie).await.text;
    assert!(
        markup::names(&page, &alice.id) && page.contains("15\u{a0}January 2027, 08:00\u{a0}UTC"),
        "{page}"
    );
}

#[tokio::test]
async fn the_address_is_withdrawn() {
    let (server, alice, bob) = with_alice().await;
    let guest = server.guest(ADDRESS).await;
    let reply = server.act(&guest, "/me/withdraw", &[]).await;
    assert_eq!(
        (reply.status.as_u16(), reply.headers["location"].as_bytes()),
        (303, &b"/me/data?done=withdrawn&lang=en"[..])
    );
    assert_eq!(server.find(&bob, ADDRESS).await, None);
    assert_eq!(server.find(&bob, OTHER).await, Some(alice.id.clone()));
    let page = server.see("/me/data?done=withdrawn", &guest.cookie).await;
    shows(&page, 200, "me_data");
    assert!(page.text.contains("role=\"status\"") && !page.text.contains(">alice<"), "{}", page.text);
    // Once more is no harm.
    assert_eq!(server.act(&guest, "/me/withdraw", &[]).await.status, 303);
}

#[tokio::test]
async fn everything_goes_after_a_second_question() {
    let (server, alice, bob) = with_alice().await;
    server.invite(&bob, "carol@example.org", "!room:hs.test").await;
    let guest = server.guest(ADDRESS).await;
    let question = server.see("/me/erase", &guest.cookie).await;
    shows(&question, 200, "me_erase");
    assert!(question.text.contains(ADDRESS) && question.text.contains("href=\"/me/data?lang=en\""));
    let reply = server.act(&guest, "/me/erase", &[("sure", "yes")]).await;
    shows(&reply, 200, "me_erased");
    assert!(reply.headers["set-cookie"].to_str().expect("text").contains("Max-Age=0"));
    assert_eq!(server.find(&bob, ADDRESS).await, None);
    shows(&server.see("/me/data", &guest.cookie).await, 200, "over");
    let bind = json!({ "sid": "none", "client_secret": "secret", "mxid": alice.id });
    server.post("/3pid/bind", &alice, &bind).await.refused(404, "M_NO_VALID_SESSION");
    shows(&server.ask_for(ADDRESS).await, 200, "me_sent");
    server.until_counted(&visits("nothing_stored", 1)).await;
    let before = server.links_to(ADDRESS).len();
    assert_eq!(before, 1, "nothing is known any more");
    assert_eq!(server.find(&bob, OTHER).await, Some(alice.id));
}

#[tokio::test]
async fn stopping_all_messages_holds_until_somebody_lifts_it() {
    let (server, alice, bob) = with_alice().await;
    let guest = server.guest(ADDRESS).await;
    let page = server.see("/me/data", &guest.cookie).await;
    assert!(page.text.contains("action=\"/me/suppress") && !page.text.contains("action=\"/me/allow"));
    let reply = server.act(&guest, "/me/suppress", &[]).await;
    assert_eq!(
        (reply.status.as_u16(), reply.headers["location"].as_bytes()),
        (303, &b"/me/data?done=suppressed&lang=en"[..])
    );
    let page = server.see("/me/data?done=suppressed", &guest.cookie).await;
    assert!(
        page.text.contains("data-silent>") && page.text.contains("<time datetime=\"2027-01-15"),
        "{}",
        page.text
    );
    assert!(!page.text.contains("action=\"/me/suppress") && page.text.contains("action=\"/me/allow"));
    let sent = server.mails().len();
    let wanted = json!({ "email": "Alice@example.org", "client_secret": "new", "send_attempt": 1 });
    let request = async || server.post("/validate/email/requestToken", &alice, &wanted).await;
    // As for any other address, so that nobody learns that its owner is known here.
    request().await.ok();
    shows(&server.ask_for(ADDRESS).await, 200, "me_sent");
    server.until_counted(&visits("suppressed", 1)).await;
    // An invitation is taken, and its mail does not leave.
    server.act(&guest, "/me/withdraw", &[]).await;
    assert!(server.invite(&bob, ADDRESS, "!room:hs.test").await["token"].is_string());
    server.until_counted("bindery_outbox_total{kind=\"invitation_mail\",outcome=\"withdrawn\"} 1").await;
    assert_eq!(server.mails().len(), sent);

    let command = |verb: &str, address: &str| {
        let mut command = bindery();
        command.args(["suppression", verb, "--address", address]);
        let output = command.env("BINDERY_DATA_DIR", &server.config.data_dir).output().expect("it runs");
        let words = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8(words).expect("UTF-8")
    };
    assert!(
        command("check", "ALICE@example.org")
            .starts_with("This address is suppressed since 2027-01-15 08:00")
    );
    assert_eq!(command("check", OTHER), "This address is not suppressed.\n");
    assert!(command("lift", "nonsense").contains("neither an email address nor a phone number"));
    assert_eq!(command("lift", ADDRESS), "This address may be written to again.\n");
    assert!(command("lift", ADDRESS).ends_with("nothing has changed.\n"));
    request().await.ok();
    let copy = copy_of(&server, &guest).await;
    let done = copy["audit"].as_array().expect("rows").iter();
    let done: Vec<_> = done.map(|row| (row["deed"].clone(), row["by"].clone())).collect();
    assert!(done.contains(&(json!("suppression"), json!("owner"))), "{done:?}");
    assert!(done.contains(&(json!("suppression_lifted"), json!("operator"))), "{done:?}");
}

#[tokio::test]
async fn the_owner_allows_messages_again_on_the_page_as_well() {
    let (server, alice, _) = with_alice().await;
    let guest = server.guest(ADDRESS).await;
    for _ in 0..2 {
        server.act(&guest, "/me/suppress", &[]).await;
        let reply = server.act(&guest, "/me/allow", &[]).await;
        assert_eq!(reply.headers["location"].as_bytes(), b"/me/data?done=allowed&lang=en");
    }
    let copy = copy_of(&server, &guest).await;
    assert_eq!(copy["not_written_to_since"], json!(null));
    let kinds = ["suppression", "suppression_lifted"].repeat(2);
    assert_eq!(deeds(&copy), [&["page_view"], &kinds[..], &["export"]].concat());
    let before = server.mails().len();
    server.clock.forward(Duration::from_secs(3600));
    server.request_token(&alice, ADDRESS, "new", 1).await;
    assert_eq!(server.mails().len(), before + 1);
}

#[tokio::test]
async fn who_wants_no_mail_is_not_told_either_and_who_erases_is_told_once_more() {
    for is_silent in [true, false] {
        let server = Server::start_with(|config| config.privacy.notify_owners = true).await;
        let alice = server.user("alice").await;
        server.bind(&alice, ADDRESS, "secret").await;
        let counted = |outcome: &str, count: u32| {
            format!("bindery_outbox_total{{kind=\"owner_notice\",outcome=\"{outcome}\"}} {count}")
        };
        server.until_counted(&counted("delivered", 1)).await;
        let guest = server.guest(ADDRESS).await;
        if is_silent {
            server.act(&guest, "/me/suppress", &[]).await;
        }
        let before = server.mails().len();
        let question = server.see("/me/erase", &guest.cookie).await.text;
        assert_eq!(question.contains("data-will-hear"), !is_silent, "{question}");
        shows(&server.act(&guest, "/me/erase", &[("sure", "yes")]).await, 200, "me_erased");
        let outcome = if is_silent { counted("withdrawn", 1) } else { counted("delivered", 2) };
        server.until_counted(&outcome).await;
        let told: Vec<_> = server.mails().into_iter().skip(before).map(|mail| mail.subject).collect();
        let farewell = words::subject("en", "unbound");
        assert_eq!(told, if is_silent { vec![] } else { vec![farewell] });
        shows(&server.ask_for(ADDRESS).await, 200, "me_sent");
        server.until_counted(&visits("nothing_stored", 1)).await;
    }
}

#[tokio::test]
async fn the_page_says_what_stays_and_how_long_by_the_settings() {
    for log in [LookupLog::Full, LookupLog::Summary] {
        let server = Server::start_with(|config| {
            config.privacy.notify_owners = false;
            config.privacy.deleted_binding_days = at_least_one(20);
            config.privacy.lookup_log = log;
            config.privacy.lookup_log_days = at_least_one(5);
        });
        let server = server.await;
        let alice = server.user("alice").await;
        server.bind(&alice, ADDRESS, "secret").await;
        let guest = server.guest(ADDRESS).await;
        for (language, days) in
            [("en", "5\u{a0}days"), ("fr", "5\u{a0}jours"), ("de", "5\u{a0}Tage"), ("es", "5\u{a0}días")]
        {
            let question = server.see(&format!("/me/erase?lang={language}"), &guest.cookie).await.text;
            let days = question.split_once("data-stays=\"log\">").map(|(_, rest)| rest.contains(days));
            assert_eq!(days, (log == LookupLog::Full).then_some(true), "{question}");
            let items = question.matches("data-stays=").count();
            assert_eq!(items, if log == LookupLog::Full { 3 } else { 2 }, "no mail will come: {question}");
        }
        let erased = server.act(&guest, "/me/erase", &[("sure", "yes")]).await;
        shows(&erased, 200, "me_erased");
        assert!(erased.text.contains("20\u{a0}days"), "{}", erased.text);
    }
}

#[tokio::test]
async fn the_page_says_for_how_many_minutes_it_stays_open() {
    let (server, ..) = with_alice().await;
    let guest = server.guest(ADDRESS).await;
    for (passed, language, left) in
        [(0, "en", "30\u{a0}minutes"), (61, "de", "29\u{a0}Minuten"), (1679, "es", "1\u{a0}minuto")]
    {
        server.clock.forward(Duration::from_secs(passed));
        let page = server.see(&format!("/me/data?lang={language}"), &guest.cookie).await.text;
        assert!(page.contains(left), "{left} is not in {page}");
    }
}

#[tokio::test]
async fn mails_come_in_the_language_that_was_chosen() {
    let server = Server::start_with(|config| config.privacy.notify_owners = true).await;
    let alice = server.user("alice").await;
    server.bind(&alice, ADDRESS, "secret").await;
    let guest = server.guest(ADDRESS).await;
    assert_eq!(server.act(&guest, "/me/language", &[("language", "de")]).await.status, 303);
    let page = server.see("/me/data", &guest.cookie).await;
    assert!(page.text.contains("<option value=\"de\" lang=\"de\" selected>"), "{}", page.text);
    let content = json!({ "mxid": alice.id, "threepid": { "medium": "email", "address": ADDRESS } });
    let header = server.homeserver.sign_request(&v2("/3pid/unbind"), "destination", "id.test", &content);
    let unbind = server.build(Method::POST, &v2("/3pid/unbind")).header("authorization", header);
    server.send(unbind.body(content.to_string())).await.ok();
    let told = || server.mails().into_iter().any(|mail| mail.subject == words::subject("de", "unbound"));
    server.until("a mail in German", async || told()).await;
}

#[tokio::test]
async fn a_closed_page_shows_nothing() {
    let (server, ..) = with_alice().await;
    let (guest, other) = (server.guest(ADDRESS).await, server.guest(OTHER).await);
    let reply = server.act(&guest, "/me/close", &[]).await;
    shows(&reply, 200, "me_closed");
    let attributes = ["HttpOnly", "Max-Age=0", "Path=/", "SameSite=Strict", "Secure"];
    assert_eq!(cookie_of(&reply), ("__Host-visit=", attributes.into()));
    shows(&server.see("/me/data", &guest.cookie).await, 200, "over");
    shows(&server.see("/me/data", &other.cookie).await, 200, "me_data");
}
