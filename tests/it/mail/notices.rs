//! Mails to the owner of an address: what happened to it, once, in their language, within a day, and
//! not to those who want none.

use std::time::Duration;

use bindery::config::SmtpSecurity;
use reqwest::Method;
use serde_json::json;

use super::message::{assert_well_formed, headers};
use crate::support::{
    Server, User, files_with,
    smtp::{Mood, Received, Relay, Stage, server_behind},
    v2, words,
};

const ADDRESS: &str = "alice@example.org";
const HOUR: Duration = Duration::from_secs(3600);

fn counted(outcome: &str, count: u32) -> String {
    format!("bindery_outbox_total{{kind=\"owner_notice\",outcome=\"{outcome}\"}} {count}")
}

async fn notifying(relay: &Relay) -> (Server, User) {
    let server = server_behind(relay, |config| config.privacy.notify_owners = true).await;
    let alice = server.user("alice").await;
    (server, alice)
}

/// Validates and publishes an address in a language; gives the session and the link of its mail.
async fn bind(server: &Server, relay: &Relay, user: &User, secret: &str, language: &str) -> (String, String) {
    let body = json!({ "email": ADDRESS, "client_secret": secret, "send_attempt": 1 });
    let request = server.build(Method::POST, &v2(super::REQUEST)).bearer_auth(&user.token);
    let request = request.header("accept-language", language).body(body.to_string());
    let sid = server.send(request).await.ok()["sid"].as_str().expect("a sid").to_owned();
    let asked =
        relay.mails().into_iter().rev().map(|mail| mail.mail()).find(|mail| mail.text.contains("/c/"));
    let asked = asked.expect("a mail");
    let body = json!({ "sid": sid, "client_secret": secret, "token": asked.token() });
    server.post("/validate/email/submitToken", user, &body).await.ok();
    let body = json!({ "sid": sid, "client_secret": secret, "mxid": user.id });
    server.post("/3pid/bind", user, &body).await.ok();
    (sid, asked.link())
}

async fn unbind_by_session(server: &Server, user: &User, sid: &str, secret: &str) {
    let threepid = json!({ "medium": "email", "address": ADDRESS });
    let body = json!({ "sid": sid, "client_secret": secret, "mxid": user.id, "threepid": threepid });
    server.request(Method::POST, &v2("/3pid/unbind"), None, Some(&body)).await.ok();
}

async fn unbind_by_homeserver(server: &Server, user: &User) {
    let content = json!({ "mxid": user.id, "threepid": { "medium": "email", "address": ADDRESS } });
    let header = server.homeserver.sign_request(&v2("/3pid/unbind"), "destination", "id.test", &content);
    let unbind = server.build(Method::POST, &v2("/3pid/unbind")).header("authorization", header);
    server.send(unbind.body(content.to_string())).await.ok();
}

/// The mails that ask for nothing.
fn notices(relay: &Relay) -> Vec<Received> {
    let mails = relay.mails().into_iter();
    mails.filter(|mail| !mail.mail().text.contains("/c/")).collect()
}

fn subjects(relay: &Relay) -> Vec<String> {
    notices(relay).iter().map(|mail| mail.mail().subject).collect()
}

fn bound() -> String {
    words::subject("en", "bound")
}

fn unbound() -> String {
    words::subject("en", "unbound")
}

#[tokio::test]
async fn whatever_happens_to_an_address_its_owner_hears_once() {
    let relay = Relay::start(SmtpSecurity::None);
    let (server, alice) = notifying(&relay).await;
    let (sid, _) = bind(&server, &relay, &alice, "one", "en").await;
    server.until_counted(&counted("delivered", 1)).await;
    // Nothing new happens by saying it again.
    bind(&server, &relay, &alice, "again", "en").await;
    unbind_by_session(&server, &alice, &sid, "one").await;
    server.until_counted(&counted("delivered", 2)).await;
    unbind_by_session(&server, &alice, &sid, "one").await;
    bind(&server, &relay, &alice, "two", "en").await;
    server.until_counted(&counted("delivered", 3)).await;
    unbind_by_homeserver(&server, &alice).await;
    server.until_counted(&counted("delivered", 4)).await;
    let (_, link) = bind(&server, &relay, &alice, "three", "en").await;
    server.until_counted(&counted("delivered", 5)).await;
    let withdraw = server.build(Method::POST, &link);
    let withdraw =
        withdraw.header("content-type", "application/x-www-form-urlencoded").body("decision=withdraw");
    assert_eq!(server.send(withdraw).await.status, 200);
    server.until_counted(&counted("delivered", 6)).await;
    // Somebody else's account takes it over, and erases all of its own.
    let bob = server.user("bob").await;
    bind(&server, &relay, &alice, "four", "en").await;
    server.until_counted(&counted("delivered", 7)).await;
    bind(&server, &relay, &bob, "five", "en").await;
    server.until_counted(&counted("delivered", 8)).await;
    let erase = server.request(Method::DELETE, "/_bindery/v1/account", Some(&bob.token), None).await;
    assert_eq!(erase.status, 200, "{}", erase.text);
    server.until_counted(&counted("delivered", 9)).await;
    let pairs = [bound(), unbound(), bound(), unbound(), bound(), unbound(), bound(), bound(), unbound()];
    assert_eq!(subjects(&relay), pairs);
    let mails = notices(&relay);
    assert!(mails.iter().all(|mail| mail.to == [ADDRESS]));
    assert!(mails[7].mail().names(&bob.id) && !mails[6].mail().names(&bob.id));
    for mail in &mails {
        assert_well_formed(mail);
        let stop = format!("<https://id.test{}>", mail.mail().stop_link());
        assert_eq!(headers(&mail.raw, "List-Unsubscribe"), [stop]);
        assert!(mail.mail().text.contains("https://id.test/me"));
    }
}

#[tokio::test]
async fn a_newer_notice_takes_the_place_of_an_older_one() {
    let relay = Relay::start(SmtpSecurity::None);
    let (server, alice) = notifying(&relay).await;
    let (sid, _) = bind(&server, &relay, &alice, "one", "en").await;
    server.until_counted(&counted("delivered", 1)).await;
    unbind_by_session(&server, &alice, &sid, "one").await;
    server.until_counted(&counted("delivered", 2)).await;
    relay.set(Mood::Accept);
    let (sid, _) = bind_while_away(&server, &relay, &alice).await;
    unbind_by_session(&server, &alice, &sid, "away").await;
    server.until_counted(&counted("waiting", 2)).await;
    relay.set(Mood::Accept);
    server.clock.forward(Duration::from_secs(5));
    server.until_counted(&counted("delivered", 3)).await;
    assert_eq!(subjects(&relay), [bound(), unbound(), unbound()]);
}

/// Publishes an address whose owner cannot be told, because the relay takes nothing any more.
async fn bind_while_away(server: &Server, relay: &Relay, user: &User) -> (String, String) {
    let body = json!({ "email": ADDRESS, "client_secret": "away", "send_attempt": 1 });
    let sid = server.post(super::REQUEST, user, &body).await.ok()["sid"].as_str().expect("a sid").to_owned();
    let asked = relay.mails().last().expect("a mail").mail();
    relay.set(Mood::Refuse(Stage::Recipient, 451));
    let body = json!({ "sid": sid, "client_secret": "away", "token": asked.token() });
    server.post("/validate/email/submitToken", user, &body).await.ok();
    let body = json!({ "sid": sid, "client_secret": "away", "mxid": user.id });
    server.post("/3pid/bind", user, &body).await.ok();
    server.until_counted(&counted("waiting", 1)).await;
    (sid, asked.link())
}

#[tokio::test]
async fn after_a_day_nothing_waits_any_more() {
    for is_restarted in [false, true] {
        let relay = Relay::start(SmtpSecurity::None);
        let (mut server, alice) = notifying(&relay).await;
        bind_while_away(&server, &relay, &alice).await;
        if is_restarted {
            server.clock.forward(20 * HOUR);
            server.until_counted(&counted("waiting", 2)).await;
            server = server.restart(|_| {});
        }
        let waiting = async || {
            let path = "/_bindery/v1/account/export";
            let copy = server.request(Method::GET, path, Some(&alice.token), None).await.ok();
            copy["waiting_to_be_sent"].as_array().expect("rows").clone()
        };
        assert_eq!(waiting().await[0]["kind"], "owner_notice");
        relay.set(Mood::Accept);
        server.clock.forward(if is_restarted { 4 * HOUR } else { 24 * HOUR });
        server.until_counted(&counted("withdrawn", 1)).await;
        assert!(waiting().await.is_empty());
        assert_eq!(subjects(&relay), [""; 0]);
    }
}

#[tokio::test]
async fn a_relay_that_is_gone_keeps_no_notice_longer() {
    let relay = Relay::start(SmtpSecurity::None);
    let (mut server, alice) = notifying(&relay).await;
    server.leaves_jobs();
    let body = json!({ "email": ADDRESS, "client_secret": "away", "send_attempt": 1 });
    let sid =
        server.post(super::REQUEST, &alice, &body).await.ok()["sid"].as_str().expect("a sid").to_owned();
    let token = relay.mails()[0].mail().token();
    let body = json!({ "sid": sid, "client_secret": "away", "token": token });
    server.post("/validate/email/submitToken", &alice, &body).await.ok();
    relay.set(Mood::Drop(Stage::Greeting));
    // It is tried first, each time, and shows that the relay is gone.
    server.invite(&alice, "carol@example.org", "!room:hs.test").await;
    server.until_counted("bindery_outbox_total{kind=\"invitation_mail\",outcome=\"waiting\"} 1").await;
    let body = json!({ "sid": sid, "client_secret": "away", "mxid": alice.id });
    server.post("/3pid/bind", &alice, &body).await.ok();
    unbind_by_homeserver(&server, &alice).await;
    assert!(!files_with(&server.config.data_dir, ADDRESS.as_bytes()).is_empty());
    server.clock.forward(24 * HOUR);
    server.until_counted(&counted("withdrawn", 1)).await;
    server.control("/retention/run", &json!(null)).await;
    assert!(files_with(&server.config.data_dir, ADDRESS.as_bytes()).is_empty());
}

#[tokio::test]
async fn an_operator_who_turns_it_off_sends_none() {
    let relay = Relay::start(SmtpSecurity::None);
    let (server, alice) = notifying(&relay).await;
    let (sid, _) = bind(&server, &relay, &alice, "one", "en").await;
    server.until_counted(&counted("delivered", 1)).await;
    let server = server.restart(|config| config.privacy.notify_owners = false);
    unbind_by_session(&server, &alice, &sid, "one").await;
    server.invite(&alice, "carol@example.org", "!room:hs.test").await;
    server.until("a mail", async || relay.mails().iter().any(|mail| mail.to == ["carol@example.org"])).await;
    assert!(!subjects(&relay).contains(&unbound()));
}

#[tokio::test]
async fn a_mail_that_nobody_decodes_keeps_its_links_whole() {
    let relay = Relay::start(SmtpSecurity::None);
    let host = "matrix-id.example.org";
    let setup = |config: &mut bindery::config::Config| {
        config.privacy.notify_owners = true;
        config.server_name = host.to_owned();
        config.public_base_url = format!("https://{host}");
    };
    let server = server_behind(&relay, setup).await;
    let alice = server.user("alice").await;
    for (number, language) in ["en", "fr", "de", "es"].into_iter().enumerate() {
        let (sid, _) = bind(&server, &relay, &alice, language, language).await;
        relay.until(|seen| seen.mails.len() > 4 * number + 1).await;
        let ask = server.build(Method::POST, &format!("/me?lang={language}"));
        let ask = ask.header("content-type", "application/x-www-form-urlencoded");
        server.send(ask.body(format!("address={ADDRESS}"))).await;
        server.until_counted(&format!("bindery_visits_total{{outcome=\"sent\"}} {}", number + 1)).await;
        // The limit of links to one address refills.
        server.clock.forward(HOUR);
        unbind_by_session(&server, &alice, &sid, language).await;
        relay.until(|seen| seen.mails.len() > 4 * number + 3).await;
    }
    assert_eq!(relay.mails().len(), 16);
    for mail in relay.mails() {
        let (raw, mail) = (String::from_utf8_lossy(&mail.raw).into_owned(), mail.mail());
        let longest = mail.text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(76), "{longest:?}: {}", mail.text);
        let (_, parts) = raw.split_once("Content-Type: text/plain").expect("a text");
        let text_part = parts.split("Content-Type: text/html").next().expect("a part");
        let soft = text_part.lines().filter(|line| line.ends_with('=')).count();
        assert_eq!(soft, 0, "{text_part}");
        let links = mail.text.split_whitespace().filter(|word| word.starts_with("https://"));
        let links: Vec<&str> = links.collect();
        assert!(links.len() >= 2, "{links:?}");
        for link in links {
            assert!(text_part.lines().any(|line| line == link), "{link}: {text_part}");
            assert!(mail.html.as_ref().expect("HTML").contains(&format!("href=\"{link}\"")), "{link}");
        }
        assert!(!mail.html.expect("HTML").contains("&#x2f;"));
    }
}

#[tokio::test]
async fn a_token_is_understood_as_people_paste_it() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    for (number, paste) in [
        |token: &str| format!("=3D{token}"),
        |token: &str| format!(" {} {} ", &token[..9], &token[9..]),
        |token: &str| format!("{}=\r\n{}", &token[..9], &token[9..]),
        |token: &str| format!("={token}\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let (secret, address) = (number.to_string(), format!("{number}@example.org"));
        let sid = server.request_token(&alice, &address, &secret, 1).await;
        let token = relay.mails()[number].mail().token();
        let body = |token: String| json!({ "sid": sid, "client_secret": secret, "token": token });
        let path = "/validate/email/submitToken";
        server
            .post(path, &alice, &body(paste("wrong-token-wrong-token")))
            .await
            .refused(400, "M_TOKEN_INCORRECT");
        server.post(path, &alice, &body("=3D".to_owned())).await.refused(400, "M_INVALID_PARAM");
        server.post(path, &alice, &body(paste(&token))).await.ok();
    }
}
