//! When a request for a token continues a session and when it begins one, and that each attempt
//! sends one mail, whatever the client does meanwhile.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bindery::{
    config::SmtpSecurity,
    domain::{
        ids::{ClientSecret, UserId},
        language::Language,
        threepid::Address,
    },
    ops::{
        Core,
        address::validate::{TokenRequest, request_token},
    },
};
use futures_util::{future::join_all, poll};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{REQUEST, request, sid};
use crate::support::core::{authenticated, core_in_memory};
use crate::support::{
    Server, TestClock, User, at_least_one,
    smtp::{Mood, Relay, Stage, server_behind, unlimited},
};

const ADDRESS: &str = "alice@example.org";

async fn server() -> (Server, User) {
    let server = Server::start_with(unlimited).await;
    let alice = server.user("alice").await;
    (server, alice)
}

async fn submit(server: &Server, user: &User, sid: &str, token: &str) -> crate::support::Reply {
    let body = json!({ "sid": sid, "client_secret": "secret", "token": token });
    server.post("/validate/email/submitToken", user, &body).await
}

#[tokio::test]
async fn an_attempt_that_is_not_greater_sends_nothing() {
    let (server, alice) = server().await;
    let first = server.request_token(&alice, ADDRESS, "secret", 5).await;
    for attempt in [5, 4, 1, 0] {
        assert_eq!(server.request_token(&alice, ADDRESS, "secret", attempt).await, first);
    }
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn a_greater_attempt_sends_the_same_token_again() {
    let (server, alice) = server().await;
    let mut attempts = [1, 2, 100, u64::MAX].into_iter();
    let first = server.request_token(&alice, ADDRESS, "secret", attempts.next().expect("one")).await;
    for (number, attempt) in attempts.enumerate() {
        assert_eq!(server.request_token(&alice, ADDRESS, "secret", attempt).await, first);
        let mails = server.mails();
        assert_eq!(mails.len(), number + 2);
        assert!(mails.iter().all(|mail| mail.token() == mails[0].token()));
    }
    submit(&server, &alice, &first, &server.mails()[0].token()).await.ok();
}

#[tokio::test]
async fn another_secret_another_address_or_another_account_is_another_session() {
    let (server, alice) = server().await;
    let bob = server.user("bob").await;
    let mut sids = vec![server.request_token(&alice, ADDRESS, "secret", 1).await];
    for (user, address, secret) in
        [(&alice, ADDRESS, "Secret"), (&alice, "alice@example.com", "secret"), (&bob, ADDRESS, "secret")]
    {
        let sid = server.request_token(user, address, secret, 1).await;
        assert!(!sids.contains(&sid));
        sids.push(sid);
    }
    let mails = server.mails();
    assert_eq!(mails.len(), 4);
    // No token is good for another of the sessions.
    for (sid, mail) in sids.iter().zip(mails.iter().cycle().skip(1)) {
        let reply = submit(&server, &alice, sid, &mail.token()).await;
        assert!(!reply.status.is_success(), "{}", reply.text);
    }
}

#[tokio::test]
async fn an_address_in_another_spelling_is_the_same_session() {
    let (server, alice) = server().await;
    let first = server.request_token(&alice, "Straße@Bücher.Example", "secret", 1).await;
    for address in
        ["STRASSE@BÜCHER.EXAMPLE", "strasse@xn--bcher-kva.example", "strasse@XN--BCHER-KVA.example"]
    {
        assert_eq!(server.request_token(&alice, address, "secret", 1).await, first);
    }
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn an_attempt_may_be_written_as_a_string_and_a_request_as_a_form() {
    let (server, alice) = server().await;
    let with =
        |attempt: Value| json!({ "email": ADDRESS, "client_secret": "secret", "send_attempt": attempt });
    let first = server.post(REQUEST, &alice, &with(json!("1"))).await.ok();
    let same = server.post(REQUEST, &alice, &with(json!(1))).await.ok();
    assert_eq!((sid(&first), server.mails().len()), (sid(&same), 1));
    let form = "email=alice%40example.org&client_secret=secret&send_attempt=2";
    let form = server
        .build(Method::POST, &crate::support::v2(REQUEST))
        .bearer_auth(&alice.token)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let same = server.send(form).await.ok();
    assert_eq!((sid(&first), server.mails().len()), (sid(&same), 2));
    for wrong in [json!("one"), json!(""), json!(-1), json!(1.5), json!([1]), json!(true), json!("-1")] {
        server.post(REQUEST, &alice, &with(wrong)).await.refused(400, "M_INVALID_PARAM");
    }
    server.post(REQUEST, &alice, &with(Value::Null)).await.refused(400, "M_MISSING_PARAMS");
    assert_eq!(server.mails().len(), 2);
}

#[tokio::test]
async fn a_validated_session_that_is_asked_for_again_stays_validated() {
    let (server, alice) = server().await;
    let first = server.validate(&alice, ADDRESS, "secret").await;
    assert_eq!(server.request_token(&alice, ADDRESS, "secret", 1).await, first);
    assert_eq!(server.mails().len(), 1);
    assert_eq!(server.request_token(&alice, ADDRESS, "secret", 2).await, first);
    assert_eq!(server.mails().len(), 2);
    submit(&server, &alice, &first, &server.mails()[1].token()).await.ok();
    let path = format!("/3pid/getValidated3pid?sid={first}&client_secret=secret");
    assert_eq!(server.get(&path, &alice).await.ok()["address"], ADDRESS);
}

#[tokio::test]
async fn a_session_lasts_a_day() {
    let (server, alice) = server().await;
    let first = server.request_token(&alice, ADDRESS, "secret", 7).await;
    let old = server.mails()[0].token();
    server.clock.forward(Duration::from_secs(24 * 3600) - Duration::from_millis(1));
    assert_eq!(server.request_token(&alice, ADDRESS, "secret", 7).await, first);
    assert_eq!(server.mails().len(), 1);
    server.clock.forward(Duration::from_millis(1));
    let second = server.request_token(&alice, ADDRESS, "secret", 1).await;
    assert_ne!(second, first);
    let mails = server.mails();
    assert_eq!(mails.len(), 2, "the old attempt number does not count in the new session");
    assert_ne!(mails[1].token(), old);
    submit(&server, &alice, &first, &old).await.refused(404, "M_NO_VALID_SESSION");
    submit(&server, &alice, &second, &old).await.refused(400, "M_TOKEN_INCORRECT");
    submit(&server, &alice, &second, &mails[1].token()).await.ok();
}

#[tokio::test]
async fn a_validated_session_lasts_a_day_from_its_validation() {
    let (server, alice) = server().await;
    let first = server.request_token(&alice, ADDRESS, "secret", 1).await;
    server.clock.forward(Duration::from_secs(23 * 3600));
    submit(&server, &alice, &first, &server.mails()[0].token()).await.ok();
    server.clock.forward(Duration::from_secs(23 * 3600));
    assert_eq!(server.request_token(&alice, ADDRESS, "secret", 1).await, first);
    server.clock.forward(Duration::from_secs(3600));
    assert_ne!(server.request_token(&alice, ADDRESS, "secret", 1).await, first);
}

#[tokio::test]
async fn after_five_wrong_tokens_the_next_request_begins_anew() {
    let (server, alice) = server().await;
    let first = server.request_token(&alice, ADDRESS, "secret", 1).await;
    let token = server.mails()[0].token();
    for _ in 0..4 {
        submit(&server, &alice, &first, "wrong").await.refused(400, "M_TOKEN_INCORRECT");
    }
    assert_eq!(server.request_token(&alice, ADDRESS, "secret", 1).await, first);
    submit(&server, &alice, &first, "wrong").await.refused(400, "M_TOKEN_INCORRECT");
    submit(&server, &alice, &first, &token).await.refused(400, "M_SESSION_EXPIRED");
    let second = server.request_token(&alice, ADDRESS, "secret", 1).await;
    assert_ne!(second, first);
    assert_eq!(server.mails().len(), 2);
    submit(&server, &alice, &second, &server.mails()[1].token()).await.ok();
}

#[tokio::test]
async fn after_this_was_not_me_the_next_request_begins_anew() {
    let (server, alice) = server().await;
    let first = server.request_token(&alice, ADDRESS, "secret", 1).await;
    let token = server.mails()[0].token();
    let (link, decision) = (server.mails()[0].link(), json!({ "decision": "withdraw" }));
    assert_eq!(server.request(Method::POST, &link, None, Some(&decision)).await.status, 200);
    submit(&server, &alice, &first, &token).await.refused(400, "M_SESSION_EXPIRED");
    let second = server.request_token(&alice, ADDRESS, "secret", 1).await;
    assert_ne!(second, first);
    submit(&server, &alice, &second, &server.mails()[1].token()).await.ok();
}

#[tokio::test]
async fn a_session_outlives_a_restart() {
    let (server, alice) = server().await;
    let first = server.request_token(&alice, ADDRESS, "secret", 1).await;
    let server = server.restart(|_| {});
    assert_eq!(server.request_token(&alice, ADDRESS, "secret", 1).await, first);
    assert_eq!(server.mails().len(), 1);
    submit(&server, &alice, &first, &server.mails()[0].token()).await.ok();
}

#[tokio::test]
async fn the_same_request_many_times_at_once_sends_one_mail() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |config| config.mail.smtp.max_connections = at_least_one(10)).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    relay.set(Mood::Hold);
    let mut first = pin!(request(&server, &alice, ADDRESS, 1));
    tokio::select! {
        biased;
        reply = &mut first => panic!("the relay has not answered: {}", reply.text),
        () = relay.until(|seen| seen.held == 1) => {}
    }
    let others = join_all((0..5).map(|_| request(&server, &alice, ADDRESS, 1)));
    let released = async {
        // They are on their way once this later one has got as far as the relay.
        let later = request(&server, &bob, "bob@example.org", 1);
        let ready = async {
            relay.until(|seen| seen.held == 2).await;
            relay.set(Mood::Accept);
        };
        tokio::join!(later, ready).0
    };
    let (first, others, later) = tokio::join!(first, others, released);
    let first = first.ok();
    for reply in others {
        assert_eq!(sid(&reply.ok()), sid(&first));
    }
    later.ok();
    let to_alice = relay.mails().into_iter().filter(|mail| mail.to == [ADDRESS]);
    assert_eq!(to_alice.count(), 1);
}

#[tokio::test]
async fn if_the_first_of_two_requests_fails_the_second_sends() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |config| config.mail.smtp.timeout_seconds = at_least_one(1)).await;
    let alice = server.user("alice").await;
    relay.set(Mood::Silent(Stage::Recipient));
    let mut first = pin!(request(&server, &alice, ADDRESS, 1));
    tokio::select! {
        biased;
        reply = &mut first => panic!("the relay has not answered: {}", reply.text),
        () = relay.until(|seen| seen.held == 1) => {}
    }
    relay.set(Mood::Accept);
    first.await.refused(400, "M_EMAIL_SEND_ERROR");
    request(&server, &alice, ADDRESS, 1).await.ok();
    assert_eq!(relay.mails().len(), 1);
}

/// The same, where it can be seen that the second is waiting.
#[test]
fn the_second_of_two_requests_waits_for_the_first() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { the_second_waits(&core_in_memory(TestClock::new()).await).await });
}

async fn the_second_waits(core: &Core) {
    let alice = authenticated(core, UserId::parse("@alice:hs.test").expect("an account")).await;
    let ask = |address: &str| TokenRequest {
        account: Some(alice.clone()),
        address: Address::email(address).expect("an address"),
        secret: ClientSecret::parse("secret").expect("a secret"),
        send_attempt: 1,
        next_link: None,
        language: Language::En,
    };
    let (delivered, begun, go_on) = (AtomicUsize::new(0), Notify::new(), Notify::new());
    let slow = async |_| {
        begun.notify_one();
        go_on.notified().await;
        delivered.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let quick = async |_| {
        delivered.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let mut first = pin!(request_token(core, ask(ADDRESS), || Ok(()), slow));
    tokio::select! {
        biased;
        _ = &mut first => panic!("nothing told it to go on"),
        () = begun.notified() => {}
    }
    let mut second = pin!(request_token(core, ask(ADDRESS), || Ok(()), quick));
    assert!(poll!(&mut second).is_pending());
    // Another session does not wait; and the database, which serves in turn, has served it.
    request_token(core, ask("bob@example.org"), || Ok(()), quick).await.expect("another session");
    assert!(poll!(&mut second).is_pending());
    assert_eq!(delivered.load(Ordering::SeqCst), 1);
    go_on.notify_one();
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.expect("a session").as_str(), second.expect("a session").as_str());
    assert_eq!(delivered.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_client_that_goes_away_loses_nothing_and_doubles_nothing() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |_| {}).await;
    let alice = server.user("alice").await;
    for (number, address) in ["a@example.org", "b@example.org", "c@example.org"].into_iter().enumerate() {
        relay.set(Mood::Hold);
        {
            let mut first = pin!(request(&server, &alice, address, 1));
            tokio::select! {
                biased;
                reply = &mut first => panic!("the relay has not answered: {}", reply.text),
                () = relay.until(|seen| seen.held == 1) => {}
            }
        }
        // The connection is closed now, and an answer to another request says the server runs on.
        server.request(Method::GET, "/_matrix/identity/versions", None, None).await.ok();
        relay.set(Mood::Accept);
        let first = request(&server, &alice, address, 1).await.ok();
        let again = request(&server, &alice, address, 1).await.ok();
        assert_eq!(sid(&first), sid(&again));
        let mails = relay.mails();
        assert_eq!(mails.len(), number + 1);
        assert!(mails[number].mail().link().contains(sid(&first)));
    }
}

#[tokio::test]
async fn a_client_may_go_away_before_its_mail_is_refused() {
    let relay = Relay::start(SmtpSecurity::None);
    let server = server_behind(&relay, |config| config.mail.smtp.timeout_seconds = at_least_one(1)).await;
    let alice = server.user("alice").await;
    relay.set(Mood::Silent(Stage::Recipient));
    {
        let mut first = pin!(request(&server, &alice, ADDRESS, 1));
        tokio::select! {
            biased;
            reply = &mut first => panic!("the relay has not answered: {}", reply.text),
            () = relay.until(|seen| seen.held == 1) => {}
        }
    }
    relay.set(Mood::Accept);
    request(&server, &alice, ADDRESS, 1).await.ok();
    assert_eq!(relay.mails().len(), 1);
}
