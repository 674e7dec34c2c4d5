//! Nothing tells whether an address has opted out (design, section 4, rule 12): not the time, not the outcome, not the
//! limits, although its owner gets nothing.

use std::time::{Duration, Instant};

use bindery::{
    config::SmtpSecurity,
    domain::{
        audit::By, clock::Clock, ids::ClientSecret, language::Language, phone::PhoneNumber, refusal::Refusal,
        server_name::ServerName, threepid::Address,
    },
    ops::{
        Core, Failure,
        account::tokens::Authenticated,
        address::{
            suppression,
            validate::{TokenRequest, request_token},
        },
        genesis,
    },
    store::Store,
};
use futures_util::future::join;
use redb::backends::InMemoryBackend;
use serde_json::json;

use crate::support::{
    Server, TestClock, User, at_least_one,
    core::{authenticated, core_with, user},
    smtp::{Mood, Relay, unlimited},
};

const SILENT: &str = "silent@example.org";

/// Requests a message to an address.
async fn ask(core: &Core, account: &Authenticated, address: Address, secret: &str) -> Result<(), Refusal> {
    let request = TokenRequest {
        account: Some(account.clone()),
        address,
        secret: ClientSecret::parse(secret).expect("a secret"),
        send_attempt: 1,
        next_link: None,
        language: Language::En,
    };
    let outcome = request_token(core, request, || Ok(()), async |_| Ok(())).await;
    outcome.map(|_| ()).map_err(|failure| match failure {
        Failure::Refused(refusal) => refusal,
        other => panic!("{other}"),
    })
}

/// The largest distance between two distributions (Kolmogorov and Smirnov): 0 if they are the same, 1 if apart.
pub fn distance(one: &[Duration], other: &[Duration]) -> f64 {
    let below = |all: &[Duration], most: Duration| {
        all.iter().filter(|length| **length <= most).count() as f64 / all.len() as f64
    };
    let all = one.iter().chain(other);
    all.map(|at| (below(one, *at) - below(other, *at)).abs()).fold(0.0, f64::max)
}

/// A server behind a relay, with an account, on which the owner of `SILENT` has opted out.
async fn server_with_opt_out(relay: &Relay) -> (Server, User) {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    server.bind(&alice, SILENT, "secret").await;
    let guest = server.guest(SILENT).await;
    assert_eq!(server.act(&guest, "/me/suppress", &[("sure", "yes")]).await.status, 303);
    let server = server.restart(|config| {
        relay.configure(config);
        unlimited(config);
    });
    (server, alice)
}

async fn ask_for_mail(server: &Server, account: &User, address: &str, secret: &str) {
    let body = json!({ "email": address, "client_secret": secret, "send_attempt": 1 });
    server.post("/validate/email/requestToken", account, &body).await.ok();
}

#[tokio::test]
async fn a_mail_to_an_address_that_opted_out_takes_as_long_as_any_other() {
    const TIMES: u64 = 60;
    let relay = Relay::start(SmtpSecurity::None);
    let (server, alice) = server_with_opt_out(&relay).await;
    relay.set(Mood::Slow);
    let (mut real, mut rehearsed) = (Vec::new(), Vec::new());
    for round in 0..2 * TIMES {
        for (address, lengths) in [("bob@example.org", &mut real), (SILENT, &mut rehearsed)] {
            let started = Instant::now();
            ask_for_mail(&server, &alice, address, &format!("secret{round}")).await;
            // The first half is what the server has seen before.
            if round >= TIMES {
                lengths.push(started.elapsed());
            }
        }
    }
    assert!(relay.mails().iter().all(|mail| mail.to == ["bob@example.org"]), "nothing was sent");
    let distance = distance(&real, &rehearsed);
    assert!(distance < 0.4, "{distance}: {real:?} {rehearsed:?}");
}

#[tokio::test]
async fn a_mail_to_an_address_that_opted_out_waits_behind_those_to_its_domain() {
    let relay = Relay::start(SmtpSecurity::None);
    let (server, alice) = server_with_opt_out(&relay).await;
    let [bob, carol] = [server.user("bob").await, server.user("carol").await];
    relay.set(Mood::Hold);
    let others = join(
        ask_for_mail(&server, &bob, "bob@example.org", "one"),
        ask_for_mail(&server, &carol, "carol@example.org", "two"),
    );
    let check = async {
        relay.until(|seen| seen.held == 2).await;
        let silent = ask_for_mail(&server, &alice, SILENT, "three");
        tokio::pin!(silent);
        let early = tokio::time::timeout(Duration::from_millis(500), &mut silent).await;
        assert!(early.is_err(), "its domain has all the connections that one domain may have");
        relay.set(Mood::Accept);
        silent.await;
    };
    join(others, check).await;
}

#[tokio::test]
async fn a_number_that_opted_out_counts_against_the_ceiling_and_gets_a_code_of_its_own() {
    let (name, clock) = (ServerName::parse("id.test").expect("a name"), TestClock::new());
    let store =
        Store::on_backend(InMemoryBackend::new(), &name, || genesis(clock.now())).expect("a database");
    let core = core_with(store, clock, |config| config.sms.daily_ceiling = at_least_one(3)).await;
    let account = authenticated(&core, user(1)).await;
    let number = |text: &str| PhoneNumber::parse(text, "GB").expect("a number").address().clone();
    let silent = number("07400 123456");
    suppression::suppress(&core, silent.clone(), By::Owner).await.expect("suppressed");
    let ask = async |address: Address, secret: &str| ask(&core, &account, address, secret).await;
    assert_eq!(ask(silent.clone(), "one").await, Ok(()));
    assert_eq!(ask(number("07400 123457"), "two").await, Ok(()));
    assert_eq!(ask(silent.clone(), "three").await, Ok(()));
    for address in [silent.clone(), number("07400 123458")] {
        let refusal = ask(address, "four").await.expect_err("the ceiling is reached");
        assert!(matches!(refusal, Refusal::LimitExceeded { .. }), "{refusal}");
    }
    // A code was made, so that wrong ones take as much work.
    let sessions = core.store.read().sessions_of_address(&silent).expect("readable");
    assert!(sessions.iter().filter(|(_, session)| session.codes().next().is_some()).count() >= 2);
}
