//! Lookup budgets (design, P16): what a lookup costs, how a budget refills, and that a restart, a crash or a
//! clock that is set back does not reset it.

mod shared;

use std::{fs, net::IpAddr, path::Path, time::Duration};

use bindery::{
    config::Config,
    domain::{
        bucket::Bucket, clock::Clock, ids::UserId, network::Network, refusal::Refusal,
        server_name::ServerName, time::Millis,
    },
    ops::{Core, genesis, lookup::budget},
    store::{DATABASE_FILE, Store},
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Reply, Server, TestClock, User, at_least_one,
    core::core_on,
    hash,
    homeserver::Homeserver,
    polling::until,
    program::Program,
    storage::{Frozen, open},
    v2,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Ten addresses at once, and one more every second.
fn ten(config: &mut Config) {
    config.lookup.max_addresses = 10;
    config.lookup.daily_budget = at_least_one(24 * 3600).into();
}

async fn pepper(server: &Server, user: &User) -> String {
    server.get("/hash_details", user).await.ok()["lookup_pepper"].as_str().expect("text").to_owned()
}

async fn look(server: &Server, user: &User, count: usize) -> Reply {
    let pepper = pepper(server, user).await;
    look_for(server, user, &pepper, vec!["x".to_owned(); count]).await
}

async fn look_for(server: &Server, user: &User, pepper: &str, addresses: Vec<String>) -> Reply {
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": addresses });
    server.post("/lookup", user, &body).await
}

/// The wait that the answer names.
fn wait_of(reply: Reply) -> Duration {
    let header: u64 = reply.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    let wait = reply.refused(429, "M_LIMIT_EXCEEDED")["retry_after_ms"].as_u64().expect("a number");
    assert!(wait > 0 && header * 1000 >= wait);
    Duration::from_millis(wait)
}

#[tokio::test]
async fn a_budget_is_used_up_and_comes_back() {
    let server = Server::start_with(ten).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    look(&server, &alice, 6).await.ok();
    look(&server, &alice, 4).await.ok();
    let wait = wait_of(look(&server, &alice, 3).await);
    assert_eq!(wait, Duration::from_secs(3));
    look(&server, &bob, 10).await.ok();
    server.clock.forward(wait - Duration::from_millis(1));
    assert_eq!(wait_of(look(&server, &alice, 3).await), Duration::from_millis(1));
    server.clock.forward(Duration::from_millis(1));
    look(&server, &alice, 3).await.ok();
    wait_of(look(&server, &alice, 1).await);
    server.clock.forward(DAY);
    look(&server, &alice, 10).await.ok();
    wait_of(look(&server, &alice, 1).await);
}

#[tokio::test]
async fn hits_and_misses_cost_the_same_and_what_is_refused_costs_nothing() {
    let server = Server::start_with(ten).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    server.bind(&alice, "alice@example.org", "secret").await;
    let pepper = pepper(&server, &alice).await;
    let known = hash("alice@example.org", "email", &pepper);
    for (user, address) in [(&alice, known), (&bob, "x".to_owned())] {
        for _ in 0..3 {
            look_for(&server, user, "stale", vec![address.clone(); 10])
                .await
                .refused(400, "M_INVALID_PEPPER");
            look_for(&server, user, &pepper, vec![address.clone(); 11]).await.refused(400, "M_INVALID_PARAM");
        }
        look_for(&server, user, &pepper, vec![address.clone(); 7]).await.ok();
        assert_eq!(
            wait_of(look_for(&server, user, &pepper, vec![address.clone(); 10]).await),
            Duration::from_secs(7)
        );
        look_for(&server, user, &pepper, vec![address; 3]).await.ok();
        // A lookup of no addresses costs something too.
        assert_eq!(wait_of(look_for(&server, user, &pepper, Vec::new()).await), Duration::from_secs(1));
    }
}

#[tokio::test]
async fn an_invitation_costs_one_whether_or_not_it_is_sent() {
    let server = Server::start_with(|config| {
        ten(config);
        config.limits.invite_per_address = bindery::domain::bucket::Rate::new(2, 1);
    })
    .await;
    let (alice, carol) = (server.user("alice").await, server.user("carol").await);
    server.bind(&carol, "carol@example.org", "secret").await;
    let invite = async |address: &str| {
        let body = json!({ "medium": "email", "address": address, "room_id": "!a:b", "sender": alice.id });
        server.post("/store-invite", &alice, &body).await
    };
    invite("carol@example.org").await.refused(400, "M_THREEPID_IN_USE");
    invite("nobody@example.org").await.ok();
    invite("nobody@example.org").await.ok();
    invite("nobody@example.org").await.refused(429, "M_LIMIT_EXCEEDED");
    look(&server, &alice, 7).await.ok();
    wait_of(look(&server, &alice, 1).await);
    assert_eq!(wait_of(invite("else@example.org").await), Duration::from_secs(1));
}

#[tokio::test]
async fn a_restart_forgives_nothing() {
    let mut server = Server::start_with(ten).await;
    let alice = server.user("alice").await;
    look(&server, &alice, 10).await.ok();
    server = server.restart(|_| {});
    assert_eq!(wait_of(look(&server, &alice, 10).await), Duration::from_secs(10));
    server.clock.forward(Duration::from_secs(10));
    server = server.restart(|_| {});
    look(&server, &alice, 10).await.ok();
    // A higher max_addresses holds at once, also for an account that has used up its budget.
    server = server.restart(|config| config.lookup.max_addresses = 20);
    look(&server, &alice, 10).await.ok();
    wait_of(look(&server, &alice, 1).await);
}

fn user(text: &str) -> UserId {
    UserId::parse(text).expect("a user ID")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The wait that a refusal names.
pub fn refused(outcome: Result<(), Refusal>) -> Duration {
    match outcome {
        Err(Refusal::LimitExceeded { retry_after }) => retry_after,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_locks_nobody_out() {
    let (storage, clock) = (Frozen::default(), TestClock::new());
    let core = core_on(open(storage.clone()), clock.clone()).await;
    let take = |core: &Core, count| {
        let account = core.budgets.keys_of(&user("@a:hs.test"));
        core.budgets.take(&account, Network::of(ip("192.0.2.1")), count, clock.now())
    };
    assert_eq!(take(&core, 10_000), Ok(()));
    clock.back(400 * DAY);
    assert_eq!(refused(take(&core, 10_000)), 2 * DAY, "not more than to fill it");
    budget::store_changes(&core).await.expect("written");
    let row = async |core: &Core| stored(&core.store).await[0].1.is_full_at();
    assert!(row(&core).await <= clock.now().after(2 * DAY).0 * 1000);
    clock.back(400 * DAY);
    drop(core);
    let core = core_on(open(storage), clock.clone()).await;
    budget::store_changes(&core).await.expect("written");
    assert!(
        row(&core).await <= clock.now().after(2 * DAY).0 * 1000,
        "also for somebody who does not come back"
    );
    assert_eq!(refused(take(&core, 10_000)), 2 * DAY);
    clock.forward(2 * DAY);
    assert_eq!(take(&core, 10_000), Ok(()));
}

#[tokio::test]
async fn what_is_full_again_is_forgotten_and_a_crash_keeps_what_was_written() {
    let (storage, clock) = (Frozen::default(), TestClock::new());
    let core = core_on(open(storage.clone()), clock.clone()).await;
    let take = |core: &Core, number: usize, count| {
        let account = core.budgets.keys_of(&user(&format!("@user{number}:hs{number}.test")));
        let network = Network::of(ip(&format!("192.0.2.{}", number % 4)));
        core.budgets.take(&account, network, count, clock.now())
    };
    let rows = async |core: &Core| stored(&core.store).await.len();
    for number in 0..2000 {
        take(&core, number, 40).expect("enough for all");
    }
    assert_eq!(rows(&core).await, 0);
    budget::store_changes(&core).await.expect("written");
    assert_eq!(rows(&core).await, 4004, "an account and a domain each, and the IP addresses");
    let syncs = storage.state().images.len();
    budget::store_changes(&core).await.expect("written");
    assert_eq!(storage.state().images.len(), syncs, "nothing has changed, so nothing is written");

    let bytes = storage.state().images.last().expect("an image").bytes.clone();
    let crashed = core_on(open(Frozen::holding(bytes)), clock.clone()).await;
    let none_left = |core: &Core| take(core, 7, 9_961);
    assert_eq!(none_left(&crashed), none_left(&core));
    assert!(none_left(&crashed).is_err());

    clock.forward(Duration::from_secs(40 * 18));
    budget::store_changes(&core).await.expect("written");
    assert_eq!(rows(&core).await, 4, "each IP address looked up twenty thousand");
    assert!(core.store.read().has_removed().expect("readable"));
    clock.forward(2 * DAY);
    budget::store_changes(&core).await.expect("written");
    assert_eq!(rows(&core).await, 0);
}

async fn stored(store: &Store) -> Vec<(u64, Bucket)> {
    store.scan(|scan| scan.budgets()).await.expect("readable")
}

/// Whether a copy of a database that is in use has budgets.
async fn has_budgets(data: &Path) -> bool {
    let copy = TempDir::new().expect("a directory");
    // The copy may have been made during a write.
    let opened = fs::copy(data.join(DATABASE_FILE), copy.path().join(DATABASE_FILE)).ok().and_then(|_| {
        let name = ServerName::parse("id.test").expect("a name");
        Store::open(copy.path(), 1 << 20, &name, || genesis(Millis(1))).ok()
    });
    match opened {
        Some(store) => store.scan(|scan| scan.budgets()).await.is_ok_and(|budgets| budgets.len() == 3),
        None => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_kill_forgives_seconds_at_most() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = crate::support::program::config_file(dir.path(), &homeserver);
    let alice = format!("@alice:{}", homeserver.name());
    let client = crate::support::client();
    let ask = async |program: &Program, method: Method, path: &str, token: &str, body: Value| {
        let request = client.request(method, format!("{}{}", program.base, v2(path))).bearer_auth(token);
        let response = request.body(body.to_string()).send().await.expect("an answer");
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.expect("a body")).expect("JSON");
        (status, body)
    };
    let mut program = Program::start(&config);
    let registration = json!({
        "access_token": homeserver.openid_token(&alice), "token_type": "Bearer",
        "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let (_, registered) = ask(&program, Method::POST, "/account/register", "", registration).await;
    let token = registered["token"].as_str().expect("a token");
    crate::support::accept_terms(&program.base, token).await;
    let (_, details) = ask(&program, Method::GET, "/hash_details", token, json!({})).await;
    let body = |count: usize| {
        let pepper = &details["lookup_pepper"];
        json!({ "algorithm": "sha256", "pepper": pepper, "addresses": vec!["x"; count] })
    };
    assert_eq!(ask(&program, Method::POST, "/lookup", token, body(10_000)).await.0, 200);
    let data = dir.path().join("data");
    until("the budgets are written down", async || has_budgets(&data).await).await;
    program.child.kill().expect("killed");
    program.child.wait().expect("gone");
    let mut program = Program::start(&config);
    assert_eq!(ask(&program, Method::POST, "/lookup", token, body(10_000)).await.0, 429);
    program.child.kill().expect("killed");
    program.child.wait().expect("gone");
}
