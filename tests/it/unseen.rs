//! Nothing tells whether an address has opted out (design, section 4, rule 12): not the time, not the outcome, not the
//! limits, although its owner gets nothing.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bindery::{
    domain::{
        audit::By, clock::Clock, ids::ClientSecret, language::Language, phone::PhoneNumber, refusal::Refusal,
        server_name::ServerName, threepid::Address,
    },
    ops::{
        Core, Failure,
        account::tokens::Authenticated,
        address::{
            deliveries::NotDelivered,
            suppression,
            validate::{TokenRequest, request_token},
        },
        genesis,
    },
    store::Store,
};
use redb::backends::InMemoryBackend;

use crate::support::{
    TestClock, at_least_one,
    core::{authenticated, core_in_memory, core_with, user},
};

const SILENT: &str = "silent@example.org";

/// Requests a message to an address, which `deliver` would deliver. Returns the outcome and how long it took.
async fn ask(
    core: &Core,
    account: &Authenticated,
    address: Address,
    secret: &str,
    deliver: impl Future<Output = Result<(), NotDelivered>>,
) -> (Result<(), Refusal>, Duration) {
    let request = TokenRequest {
        account: Some(account.clone()),
        address,
        secret: ClientSecret::parse(secret).expect("a secret"),
        send_attempt: 1,
        next_link: None,
        language: Language::En,
    };
    let started = Instant::now();
    let outcome = request_token(core, request, || Ok(()), |_| deliver).await;
    let took = started.elapsed();
    let outcome = outcome.map(|_| ()).map_err(|failure| match failure {
        Failure::Refused(refusal) => refusal,
        other => panic!("{other}"),
    });
    (outcome, took)
}

fn email(text: &str) -> Address {
    Address::email(text).expect("an address")
}

/// The largest distance between two distributions (Kolmogorov and Smirnov): 0 if they are the same, 1 if apart.
pub fn distance(one: &[Duration], other: &[Duration]) -> f64 {
    let below = |all: &[Duration], most: Duration| {
        all.iter().filter(|length| **length <= most).count() as f64 / all.len() as f64
    };
    let all = one.iter().chain(other);
    all.map(|at| (below(one, *at) - below(other, *at)).abs()).fold(0.0, f64::max)
}

#[tokio::test]
async fn an_address_that_opted_out_takes_the_time_of_recent_deliveries() {
    const TIMES: u64 = 60;
    let core = core_in_memory(TestClock::new()).await;
    let account = authenticated(&core, user(1)).await;
    suppression::suppress(&core, email(SILENT), By::Owner).await.expect("suppressed");
    let (mut real, mut imitated) = (Vec::new(), Vec::new());
    let never = AtomicUsize::new(0);
    for round in 0..2 * TIMES {
        let secret = format!("secret{round}");
        let delivery = async {
            // A relay whose answers take 20 to 60 ms.
            tokio::time::sleep(Duration::from_millis(20 + round * 7919 % 40)).await;
            Ok(())
        };
        let (outcome, took) = ask(&core, &account, email("a@example.org"), &secret, delivery).await;
        assert_eq!(outcome, Ok(()));
        // The first half is what the server has seen before.
        if round < TIMES {
            continue;
        }
        real.push(took);
        let delivery = async {
            never.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let (outcome, took) = ask(&core, &account, email(SILENT), &secret, delivery).await;
        assert_eq!(outcome, Ok(()));
        imitated.push(took);
    }
    assert_eq!(never.load(Ordering::SeqCst), 0, "nothing was sent");
    let distance = distance(&real, &imitated);
    assert!(distance < 0.4, "{distance}: {real:?} {imitated:?}");
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
    let ask = async |address: Address, secret: &str| {
        ask(&core, &account, address, secret, async { Ok(()) }).await.0
    };
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
