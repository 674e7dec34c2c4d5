//! What many share: neither names under one domain, nor networks beside each other, nor accounts multiply what can be
//! looked up, and a few accounts stop nobody's small lookups. The table in docs/privacy.md is computed here.

use std::{fs, sync::Arc, time::Duration};

use bindery::{
    config::{Config, HomeserverBudget, NetworkBudget},
    domain::{clock::Clock, network::Network, refusal::Refusal, server_name::ServerName, time::Millis},
    ops::{Core, genesis, lookup::budget::Budgets},
    store::Store,
};
use redb::backends::InMemoryBackend;

use super::{DAY, at_least_one, ip, look, refused, ten, user};
use crate::support::{
    Server, TestClock,
    core::{core_in_memory, core_with},
};

const HOUR: Duration = Duration::from_secs(3600);

async fn core_of(change: impl FnOnce(&mut Config)) -> (Core, Arc<TestClock>) {
    let (name, clock) = (ServerName::parse("id.test").expect("a name"), TestClock::new());
    let store =
        Store::on_backend(InMemoryBackend::new(), &name, || genesis(clock.now())).expect("a database");
    (core_with(store, clock.clone(), change).await, clock)
}

fn take(core: &Core, who: &str, from: &str, count: usize) -> Result<(), Refusal> {
    core.budgets.take(&core.budgets.keys_of(&user(who)), Network::of(ip(from)), count, core.clock.now())
}

/// How many addresses these callers can look up at once, a thousand at a time.
fn at_once<'a>(core: &Core, callers: impl IntoIterator<Item = (&'a str, &'a str)>) -> usize {
    let taken = callers.into_iter().map(|(who, from)| {
        let mut taken = 0;
        while take(core, who, from, 1000).is_ok() {
            taken += 1000;
        }
        taken
    });
    taken.sum()
}

#[tokio::test]
async fn ten_names_of_a_domain_with_ten_accounts_each_from_ten_networks_have_three_books_at_once() {
    let callers = |domain: fn(usize) -> String, network: fn(usize) -> String| {
        let pairs = (0..100).map(move |n| (format!("@a{}:{}", n % 10, domain(n / 10)), network(n / 10)));
        pairs.collect::<Vec<_>>()
    };
    for (domain, network) in [
        // One domain and one /48; one domain and ten networks far apart; ten domains and one /48, then one /56.
        (
            (|n| format!("hs{n}.evil.test:{}", n + 1)) as fn(usize) -> String,
            (|n| format!("2001:db8:7:{n}00::1")) as fn(usize) -> String,
        ),
        (|n| format!("x.hs{n}.Evil.test"), |n| format!("2001:db8:{n}::1")),
        (|n| format!("evil{n}.test"), |n| format!("2001:db8:7:{n}00::1")),
        (|n| format!("evil{n}.test"), |n| format!("2001:db8:7:{n}::1")),
        (|n| format!("evil{n}.test"), |n| format!("::ffff:192.0.2.{}", n / 10)),
    ] {
        let core = core_in_memory(TestClock::new()).await;
        let callers = callers(domain, network);
        let callers = callers.iter().map(|(who, from)| (who.as_str(), from.as_str()));
        assert_eq!(at_once(&core, callers), 20_000, "and ten thousand are left for small lookups");
    }
}

#[tokio::test]
async fn an_address_book_of_ten_thousand_goes_through_at_once_for_a_new_account() {
    let core = core_in_memory(TestClock::new()).await;
    assert_eq!(take(&core, "@first:hs.test", "192.0.2.1", 10_000), Ok(()));
    assert_eq!(take(&core, "@second:hs.test", "192.0.2.1", 10_000), Ok(()));
    let wait = refused(take(&core, "@third:hs.test", "192.0.2.1", 10_000));
    assert_eq!(wait, 6 * HOUR, "almost five hours, rounded up");
    assert_eq!(take(&core, "@third:other.test", "192.0.2.2", 10_000), Ok(()), "nothing was taken");
}

#[tokio::test]
async fn a_few_accounts_cannot_stop_the_small_lookups_of_their_neighbours() {
    let (core, clock) = core_of(|_| {}).await;
    let greedy = |n: usize| format!("@greedy{n}:hs.test");
    let mut taken_by_neighbours = 0;
    for hour in 0..24 {
        // They take whatever they get, in large lookups and in small ones.
        for n in 0..20 {
            for count in [10_000, 1000, 101, 100, 10, 1] {
                while take(&core, &greedy(n), "192.0.2.1", count).is_ok() {}
            }
        }
        // A third of what a day refills, by people who look up fewer than a hundred each.
        for neighbour in 0..7 {
            let who = format!("@neighbour{hour}-{neighbour}:hs.test");
            assert_eq!(take(&core, &who, "192.0.2.1", 99), Ok(()), "{hour} {neighbour}");
            taken_by_neighbours += 99;
        }
        clock.forward(HOUR);
    }
    assert!(taken_by_neighbours >= 50_000 / 3 - 99, "{taken_by_neighbours}");
    // Whoever has looked up a hundred today takes from what is left of the rest, which is nothing.
    while take(&core, &greedy(0), "192.0.2.1", 1000).is_ok() {}
    refused(take(&core, &greedy(1), "192.0.2.1", 1000));
}

#[tokio::test]
async fn a_hundred_addresses_in_a_day_are_small_and_no_more() {
    let (core, clock) = core_of(|config| config.lookup.max_addresses = 1000).await;
    // Nothing is left but the thousand for small lookups.
    for n in 0..4 {
        let _ = take(&core, &format!("@greedy{n}:hs.test"), "192.0.2.1", 500);
    }
    while take(&core, "@greedy:hs.test", "192.0.2.2", 101).is_ok() {}
    assert_eq!(take(&core, "@small:hs.test", "192.0.2.1", 60), Ok(()));
    assert_eq!(take(&core, "@small:hs.test", "192.0.2.1", 40), Ok(()));
    refused(take(&core, "@small:hs.test", "192.0.2.1", 100));
    assert_eq!(take(&core, "@other:hs.test", "192.0.2.1", 100), Ok(()));
    clock.forward(DAY);
    assert_eq!(take(&core, "@small:hs.test", "192.0.2.1", 100), Ok(()), "a new day");
}

#[tokio::test]
async fn a_homeserver_or_network_that_the_operator_names_has_its_own_burst_and_refill() {
    let named = |burst: u32, per_day: u32| (at_least_one(burst).into(), at_least_one(per_day).into());
    let (core, clock) = core_of(|config| {
        let (burst, per_day) = named(90_000, 24_000);
        let homeserver = "Big.hs.test:8448".to_owned();
        config.lookup.homeserver_budgets = vec![HomeserverBudget { homeserver, burst, per_day }];
        let network = "203.0.113.0/24".parse().expect("a network");
        config.lookup.network_budgets = vec![NetworkBudget { network, burst, per_day }];
    })
    .await;
    let people =
        (0..100).map(|n| (format!("@a{n}:big.hs.test"), format!("203.0.113.{n}"))).collect::<Vec<_>>();
    let people = || people.iter().map(|(who, from)| (who.as_str(), from.as_str()));
    assert_eq!(at_once(&core, people()), 60_000);
    clock.forward(HOUR);
    assert_eq!(at_once(&core, people()), 1000);
    // The rest of its domain is not affected, nor is another network.
    assert_eq!(at_once(&core, [("@a:hs.test", "192.0.2.1")]), 10_000);
}

#[tokio::test]
async fn a_refusal_by_a_shared_budget_does_not_tell_its_level() {
    let core = core_in_memory(TestClock::new()).await;
    assert_eq!(at_once(&core, [("@a:hs.test", "192.0.2.1")]), 10_000);
    assert_eq!(take(&core, "@b:hs.test", "192.0.2.1", 2000), Ok(()));
    let mut waits = Vec::new();
    for n in 0..11 {
        waits.push(refused(take(&core, "@probe:hs.test", "192.0.2.1", 9000)));
        assert_eq!(take(&core, &format!("@a{n}:hs.test"), "192.0.2.1", 700), Ok(()));
    }
    waits.dedup();
    assert_eq!(waits, [HOUR, 6 * HOUR]);
}

#[tokio::test]
async fn an_alarm_tells_when_all_lookups_of_a_day_pass_a_threshold_and_refuses_nothing() {
    let server = Server::start_with(|config| {
        ten(config);
        config.lookup.alarm_per_day = at_least_one(10).into();
    })
    .await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    look(&server, &alice, 10).await.ok();
    assert!(server.metrics().await.contains("bindery_lookup_alarm 0"));
    look(&server, &bob, 1).await.ok();
    let metrics = server.metrics().await;
    assert!(metrics.contains("bindery_lookup_alarm 1"), "{metrics}");
    assert!(metrics.contains("bindery_looked_up_addresses_total 11"), "{metrics}");
    look(&server, &bob, 9).await.ok();
    server.clock.forward(DAY);
    server.until_counted("bindery_lookup_alarm 0").await;
}

/// An attacker: how many registrable domains and networks, and whether it may use more than one account.
struct Attacker {
    words: &'static str,
    domains: usize,
    networks: usize,
    has_accounts: bool,
}

const ATTACKERS: [Attacker; 4] = [
    Attacker { words: "one account", domains: 1, networks: 1, has_accounts: false },
    Attacker {
        words: "one domain or one network, whatever its accounts, names and subnets",
        domains: 1,
        networks: 1,
        has_accounts: true,
    },
    Attacker { words: "ten domains and ten networks", domains: 10, networks: 10, has_accounts: true },
    Attacker {
        words: "a hundred domains and a hundred networks",
        domains: 100,
        networks: 100,
        has_accounts: true,
    },
];

/// How long it takes to look up each of these numbers of addresses, asking every hour. Each lookup is a small one of a
/// new account where there are accounts: nothing gets more.
fn times(budgets: &Budgets, attacker: &Attacker, start: Millis, totals: [u64; 2]) -> [Duration; 2] {
    let (mut now, mut done, mut asked) = (start, 0, 0);
    let mut times = [None; 2];
    loop {
        for pair in 0..attacker.domains.max(attacker.networks) {
            let (domain, network) = (pair % attacker.domains, pair % attacker.networks);
            loop {
                let account = if attacker.has_accounts { asked } else { 0 };
                let who = user(&format!("@a{account}:hs{}.evil{domain}.test", account % 1000));
                let from = ip(&format!("2001:db8:{network:x}:{:x}::1", account % 0x1_0000));
                asked += 1;
                if budgets.take(&budgets.keys_of(&who), Network::of(from), 100, now).is_err() {
                    break;
                }
                done += 100;
                for (time, total) in times.iter_mut().zip(totals) {
                    if done >= total && time.is_none() {
                        *time = Some(Duration::from_millis(now.0 - start.0));
                    }
                }
                if let [Some(one), Some(other)] = times {
                    return [one, other];
                }
            }
        }
        now = now.after(HOUR);
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() / 3600 {
        0 => "no time".to_owned(),
        hours @ 1..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

#[tokio::test]
async fn the_table_in_the_documents_is_computed_from_the_real_buckets() {
    let mut table = "| attacker | a million addresses take | all 10 million numbers of a prefix take |\n| --- | --- | --- |\n".to_owned();
    for attacker in &ATTACKERS {
        let core = core_in_memory(TestClock::new()).await;
        let [million, prefix] = times(&core.budgets, attacker, core.clock.now(), [1_000_000, 10_000_000]);
        table += &format!("| {} | {} | {} |\n", attacker.words, in_words(million), in_words(prefix));
    }
    for (domains, networks) in [(1, 50), (50, 1)] {
        let core = core_in_memory(TestClock::new()).await;
        let attacker = Attacker { words: "", domains, networks, has_accounts: true };
        let [million, _] = times(&core.budgets, &attacker, core.clock.now(), [1_000_000; 2]);
        assert_eq!(in_words(million), "19 days", "either of the two is enough");
    }
    let document = fs::read_to_string("docs/privacy.md").expect("the document");
    assert!(document.contains(&table), "docs/privacy.md must have this table:\n{table}");
}

#[test]
fn a_budget_for_a_name_must_be_at_least_as_large_as_a_lookup_and_fill_in_time() {
    for (text, problem) in [
        ("{ homeserver = 'a b', burst = 10000, per_day = 1000 }", "'a b' is not a server name"),
        ("{ homeserver = 'hs.test', burst = 9999, per_day = 1000 }", "'hs.test' is smaller"),
        ("{ homeserver = 'hs.test', burst = 100000, per_day = 1000 }", "would take 100 days"),
    ] {
        let config: Config =
            toml::from_str(&format!("lookup.homeserver_budgets = [{text}]")).expect("it has the right form");
        let problems = config.check().expect_err("a problem").to_string();
        assert!(problems.contains("lookup.homeserver_budgets") && problems.contains(problem), "{problems}");
    }
    let text = "lookup.network_budgets = [{ network = '2001:db8::/96', burst = 10000, per_day = 1000 }]";
    let config: Config = toml::from_str(text).expect("it has the right form");
    assert!(config.check().expect_err("a problem").to_string().contains("smaller than a /64"));
}
