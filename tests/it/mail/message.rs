//! What a mail looks like, byte by byte: its headers, its parts, its four languages, and what
//! somebody who chooses an address or an account name cannot make of it.

use bindery::{config::SmtpSecurity, domain::threepid::Address};
use mail_parser::{MessageParser, PartType};
use reqwest::{Method, header::ACCEPT_LANGUAGE};
use serde_json::json;

use super::{REQUEST, request, sid, wanted};
use crate::support::{
    Server, User,
    homeserver::{Answer, user_info_path},
    markup,
    smtp::{Received, Relay, server_behind},
    v2, words,
};

/// The value of every header of this name at the top of the mail, unfolded.
pub(super) fn headers(raw: &[u8], name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(raw);
    let (head, _) = text.split_once("\r\n\r\n").expect("headers");
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let lines = unfolded.split("\r\n").filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).collect()
}

/// What every mail must be, whatever is in it.
pub(super) fn assert_well_formed(mail: &Received) {
    let raw = &mail.raw;
    for (at, byte) in raw.iter().enumerate() {
        match byte {
            b'\n' => assert!(at > 0 && raw[at - 1] == b'\r', "a bare LF at {at}"),
            b'\r' => assert_eq!(raw.get(at + 1), Some(&b'\n'), "a bare CR at {at}"),
            0 => panic!("a NUL at {at}"),
            _ => {}
        }
    }
    let longest = raw.split(|byte| *byte == b'\n').map(|line| line.len().saturating_sub(1)).max();
    assert!(longest <= Some(998), "a line has {longest:?} bytes");
    for name in [
        "Date",
        "Message-ID",
        "From",
        "To",
        "Subject",
        "Auto-Submitted",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "MIME-Version",
    ] {
        assert_eq!(headers(raw, name).len(), 1, "one {name}");
    }
    for name in ["Bcc", "Cc", "Reply-To", "Sender"] {
        assert!(headers(raw, name).is_empty(), "no {name}");
    }
    assert_eq!(headers(raw, "Auto-Submitted"), ["auto-generated"]);
    assert_eq!(headers(raw, "To"), mail.to);
    assert_eq!(headers(raw, "List-Unsubscribe-Post"), ["List-Unsubscribe=One-Click"]);
}

async fn one_mail(relay: &Relay, server: &Server, user: &User, address: &str) -> Received {
    let before = relay.mails().len();
    request(server, user, address, 1).await.ok();
    let mails = relay.mails();
    assert_eq!(mails.len(), before + 1);
    assert_well_formed(&mails[before]);
    mails[before].clone()
}

#[tokio::test]
async fn a_mail_has_the_headers_and_parts_that_it_must_have() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    let mail = one_mail(&relay, &server, &alice, "Alice@Example.org").await;
    assert_eq!(headers(&mail.raw, "From"), ["Bindery <noreply@id.test>"]);
    assert_eq!(headers(&mail.raw, "To"), ["alice@example.org"]);
    assert!(headers(&mail.raw, "Content-Type")[0].starts_with("multipart/alternative;"));
    let id = &headers(&mail.raw, "Message-ID")[0];
    assert!(id.starts_with('<') && id.ends_with('>') && id.contains('@'), "{id}");
    let message = MessageParser::default().parse(&mail.raw).expect("a mail");
    assert!(message.date().is_some_and(|date| date.is_valid()));
    let parts: Vec<_> = message.parts.iter().map(|part| &part.body).collect();
    let [PartType::Multipart(_), PartType::Text(text), PartType::Html(html)] = parts[..] else {
        panic!("{parts:?}")
    };
    let token = mail.mail().token();
    assert!(text.contains(&token) && html.contains(&token));
    assert!(mail.mail().names(&alice.id), "{text}");
    assert!(text.contains("https://id.test/c/"));

    let other = one_mail(&relay, &server, &alice, "bob@example.org").await;
    assert_ne!(headers(&other.raw, "Message-ID")[0], *id);
    assert_ne!(other.mail().token(), token);
}

#[tokio::test]
async fn the_sender_is_as_configured_whatever_its_name() {
    let long = "A very long name ".repeat(12);
    for (from, name) in [
        ("noreply@id.test".to_owned(), None),
        ("\"Bindery, the server\" <noreply@id.test>".to_owned(), Some("Bindery, the server")),
        ("Bücherei Köln <noreply@id.test>".to_owned(), Some("Bücherei Köln")),
        ("Bücherei <noreply@bücher.test>".to_owned(), Some("Bücherei")),
        (format!("{} <noreply@id.test>", long.trim()), Some(long.trim())),
    ] {
        let relay = Relay::start(SmtpSecurity::None);
        let server = server_behind(&relay, |config| config.mail.from = from.clone()).await;
        let alice = server.user("alice").await;
        let mail = one_mail(&relay, &server, &alice, "alice@example.org").await;
        let address = if from.contains("bücher") { "noreply@xn--bcher-kva.test" } else { "noreply@id.test" };
        assert_eq!(mail.from, address);
        let message = MessageParser::default().parse(&mail.raw).expect("a mail");
        let sender = message.from().and_then(|from| from.first()).expect("a sender");
        assert_eq!(sender.name(), name, "{from}");
        assert_eq!(sender.address(), Some(address));
    }
}

#[tokio::test]
async fn a_sender_without_a_name_has_the_operators() {
    let long = "A very long name ".repeat(12);
    for (from, operator, name) in [
        ("noreply@id.test", "Example Society", Some("Example Society")),
        ("<noreply@id.test>", "Example Society", Some("Example Society")),
        ("Own name <noreply@id.test>", "Example Society", Some("Own name")),
        ("noreply@id.test", "", None),
        ("noreply@id.test", "Verein für Köln, e. V.", Some("Verein für Köln, e. V.")),
        ("noreply@id.test", "A \"B\" \\ <victim@c.test>, x", Some("A \"B\" \\ <victim@c.test>, x")),
        ("noreply@id.test", "=?utf-8?q?x?=", Some("=?utf-8?q?x?=")),
        ("noreply@id.test", "社団 😀", Some("社団 😀")),
        ("noreply@id.test", long.trim(), Some(long.trim())),
    ] {
        let relay = Relay::start(SmtpSecurity::None);
        let server = server_behind(&relay, |config| {
            config.mail.from = from.to_owned();
            config.operator.name = operator.to_owned();
        })
        .await;
        let alice = server.user("alice").await;
        let mail = one_mail(&relay, &server, &alice, "alice@example.org").await;
        assert_eq!((mail.from.as_str(), mail.to.len()), ("noreply@id.test", 1), "{operator}");
        let message = MessageParser::default().parse(&mail.raw).expect("a mail");
        let senders = message.from().expect("a sender");
        assert_eq!(senders.iter().count(), 1, "{operator}");
        let sender = senders.first().expect("a sender");
        assert_eq!(sender.address(), Some("noreply@id.test"));
        assert_eq!(sender.name(), name, "{operator}");
    }
}

#[tokio::test]
async fn the_answer_to_a_mail_goes_to_the_operators_contact() {
    for (contact, reply_to) in [
        ("", None),
        ("privacy@example.org", Some("privacy@example.org")),
        ("privacy@bücher.example", Some("privacy@xn--bcher-kva.example")),
        // Every mail would need SMTPUTF8.
        ("jürgen@example.org", None),
    ] {
        let relay = Relay::start(SmtpSecurity::None);
        let server = server_behind(&relay, |config| config.operator.contact = contact.to_owned()).await;
        let alice = server.user("alice").await;
        request(&server, &alice, "alice@example.org", 1).await.ok();
        let mail = &relay.mails()[0];
        assert_eq!(headers(&mail.raw, "Reply-To"), Vec::from_iter(reply_to), "{contact}");
        assert!(mail.raw.is_ascii() && mail.parameters.is_empty(), "{contact}: {}", mail.parameters);
    }
}

#[tokio::test]
async fn an_international_domain_travels_as_a_labels() {
    let relay = Relay::start(SmtpSecurity::Starttls);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;

    let mail = one_mail(&relay, &server, &alice, "a@Bücher.example").await;
    assert_eq!(mail.to, ["a@xn--bcher-kva.example"]);
    assert!(mail.raw.is_ascii() && mail.parameters.is_empty(), "{}", mail.parameters);

    let mail = one_mail(&relay, &server, &alice, "Jürgen@bücher.example").await;
    assert_eq!(mail.to, ["jürgen@xn--bcher-kva.example"]);
    assert!(mail.parameters.contains("SMTPUTF8"), "{}", mail.parameters);
}

#[tokio::test]
async fn a_relay_without_smtputf8_is_not_given_such_an_address() {
    let relay = Relay::start_with(SmtpSecurity::None, |offers| offers.smtputf8 = false);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    let refused = request(&server, &alice, "jürgen@bücher.example", 1).await;
    refused.refused(400, "M_EMAIL_SEND_ERROR");
    assert_eq!(relay.mails().len(), 0);
    one_mail(&relay, &server, &alice, "a@bücher.example").await;
}

#[tokio::test]
async fn every_address_that_is_accepted_can_be_written_to() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    let long_local = "l".repeat(64);
    let long_label = format!("a@{}.example", "d".repeat(63));
    let long_domain = format!("a@{}example", format!("{}.", "d".repeat(60)).repeat(4));
    for address in [
        "!#$%&'*+-/=?^_`{|}~@example.org",
        "first.last+tag@sub.sub.example.org",
        "a@b",
        "a@xn--bcher-kva.example",
        "1@1.example",
        "a@a-b.example",
        &format!("{long_local}@example.org"),
        &long_label,
        &long_domain,
        // Letters with marks, a typographic apostrophe, an emoji (RFC 6531 section 3.3).
        "\u{938}\u{902}\u{92a}\u{930}\u{94d}\u{915}@\u{921}\u{93e}\u{91f}\u{93e}\u{92e}\u{947}\u{932}.\u{92d}\u{93e}\u{930}\u{924}",
        "\u{e1c}\u{e39}\u{e49}\u{e43}\u{e0a}\u{e49}@\u{e44}\u{e17}\u{e22}.\u{e04}\u{e19}",
        "u\u{308}@c.test",
        "a\u{2019}b@c.test",
        "\u{1f600}@c.test",
    ] {
        let mail = one_mail(&relay, &server, &alice, address).await;
        assert_eq!(mail.to.len(), 1);
        let canonical = Address::email(address).expect("an address");
        let (local, domain) = canonical.smtp().expect("it fits into a path");
        assert_eq!(mail.to, [format!("{local}@{domain}")]);
    }
}

#[tokio::test]
async fn an_address_to_which_no_mail_can_go_is_refused_at_once() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    // 255 bytes; 254 is the longest path (RFC 5321 section 4.5.3.1.3).
    let domain = format!("{}.{}.{}.test", "d".repeat(63), "d".repeat(63), "d".repeat(57));
    let too_long = format!("{}@{domain}", "l".repeat(255 - 1 - domain.len()));
    request(&server, &alice, &too_long, 1).await.refused(400, "M_INVALID_EMAIL");
    let invitation = json!({
        "medium": "email", "address": too_long, "room_id": "!room:hs.test", "sender": alice.id,
    });
    server.post("/store-invite", &alice, &invitation).await.refused(400, "M_INVALID_EMAIL");
    one_mail(&relay, &server, &alice, &too_long[1..]).await;
}

#[tokio::test]
async fn an_address_cannot_bring_anything_else_with_it() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    for address in [
        "a@b.test\r\nBcc: victim@c.test",
        "a@b.test\nBcc: victim@c.test",
        "a\r\nBcc: victim@c.test\r\nX: @b.test",
        "a@b.test\r",
        "a@b.test\n",
        "\na@b.test",
        "a@b.test\u{85}",
        "a\u{2028}@b.test",
        "a@b.test\0",
        "a@b.test> SIZE=1\r\nRCPT TO:<victim@c.test",
        "a@b.test>",
        "<a@b.test>",
        "Alice <a@b.test>",
        "\"a\r\n\"@b.test",
        "a@b.test, victim@c.test",
        "a@b.test victim@c.test",
        "a@b.test(comment)",
        "a@[127.0.0.1]",
        "a@127.0.0.1",
        "a@b@c.test",
        "@b.test",
        "a@",
        "",
    ] {
        request(&server, &alice, address, 1).await.refused(400, "M_INVALID_EMAIL");
    }
    assert_eq!(relay.seen(|seen| seen.connections), 0, "the relay has heard of none of them");
}

#[tokio::test]
async fn other_parameters_cannot_bring_headers_either() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    let injected = "x\r\nBcc: victim@c.test";
    let mut body = wanted("alice@example.org", "secret", 1);
    body["brand"] = json!(injected);
    body["next_link"] = json!(format!("https://c.test/{injected}"));
    let language = server.build(Method::POST, &v2(REQUEST)).bearer_auth(&alice.token);
    let language = language.header(ACCEPT_LANGUAGE, "xx-victim, de;q=0.3").body(body.to_string());
    server.send(language).await.ok();
    let mail = &relay.mails()[0];
    assert_well_formed(mail);
    assert_eq!(mail.to, ["alice@example.org"]);
    assert!(!String::from_utf8_lossy(&mail.raw).contains("victim"));
    body["client_secret"] = json!(injected);
    server.post(REQUEST, &alice, &body).await.refused(400, "M_INVALID_PARAM");
}

/// An account with a name that only a homeserver without scruples gives out.
async fn account(server: &Server, id: &str) -> User {
    let token = "openid-of-the-hostile";
    server.homeserver.answer(&user_info_path(token), Answer::Json(200, json!({ "sub": id })));
    let reply = server.register_with(server.homeserver.name(), token).await.ok();
    let user = User { id: id.to_owned(), token: reply["token"].as_str().expect("a token").to_owned() };
    let accepted = json!({ "user_accepts": ["https://id.test/terms/1/en"] });
    server.post("/terms", &user, &accepted).await.ok();
    user
}

#[tokio::test]
async fn an_account_name_is_text_in_the_html_part() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let id = format!("@<img>&'{{{{token}}}}:{}", server.homeserver.name());
    let mallory = account(&server, &id).await;
    let mail = one_mail(&relay, &server, &mallory, "alice@example.org").await.mail();
    let html = mail.html.clone().expect("html");
    assert!(!html.contains("<img") && !html.contains("&'"), "{html}");
    assert!(html.contains("&lt;img"), "{html}");
    assert!(html.contains("{{token}}"), "what a name says is no template: {html}");
    assert!(mail.text.contains("<img>&'{{token}}"), "plain text needs no escaping: {}", mail.text);
}

#[tokio::test]
async fn of_an_account_named_like_a_link_mail_and_page_say_the_same_and_it_is_no_link() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let name = server.homeserver.name();
    let mallory = account(&server, &format!("@evil.example/log-in:{name}")).await;
    let mail = one_mail(&relay, &server, &mallory, "alice@example.org").await.mail();
    let shown = format!("@evil.example\\u{{2f}}log-in:{name}");
    let page = server.send(server.build(Method::GET, &mail.link())).await.text;
    assert!(mail.names(&shown) && markup::names(&page, &shown), "{}{page}", mail.text);
}

#[tokio::test]
async fn the_client_chooses_the_language() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    let readers = [
        (None, "en"),
        (Some("de-AT, en;q=0.5"), "de"),
        (Some("ja, fr;q=0.2"), "fr"),
        (Some("en;q=0.1, es;q=0.2"), "es"),
        (Some("ja"), "en"),
    ];
    for (number, (header, language)) in readers.into_iter().enumerate() {
        send_in(&server, &alice, &format!("{number}@example.org"), header).await;
        let mail = relay.mails()[number].mail();
        assert_eq!(mail.subject, words::subject(language, "validate"));
        let html = mail.html.expect("html");
        assert!(html.contains(&format!("<html lang=\"{language}\">")), "{html}");
    }
}

#[tokio::test]
async fn the_operator_chooses_the_language_of_those_who_do_not() {
    let relay = Relay::start(SmtpSecurity::None);
    let french = bindery::domain::language::Language::Fr;
    let server = server_behind(&relay, |config| config.mail.default_language = french).await;
    let alice = server.user("alice").await;
    for (number, header) in [None, Some("ja, zh")].into_iter().enumerate() {
        send_in(&server, &alice, &format!("{number}@example.org"), header).await;
        assert_eq!(relay.mails()[number].mail().subject, words::subject("fr", "validate"));
    }
}

async fn send_in(server: &Server, user: &User, address: &str, accept_language: Option<&str>) -> String {
    let body = wanted(address, "secret", 1).to_string();
    let mut request = server.build(Method::POST, &v2(REQUEST)).bearer_auth(&user.token).body(body);
    if let Some(header) = accept_language {
        request = request.header(ACCEPT_LANGUAGE, header);
    }
    sid(&server.send(request).await.ok()).to_owned()
}
