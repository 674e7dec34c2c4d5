//! A flood of requests that make Bindery ask a homeserver which never answers: the flood is refused at once, and
//! other callers of other homeservers do not notice it.

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bindery::{
    domain::{
        bucket::Rate, clock::Clock, ids::OpenIdToken, network::Network as Caller, server_name::ServerName,
    },
    ops::Homeservers,
    remote::{
        discovery::{Discovery, Ports},
        dns::Dns,
        fetch::Fetch,
        homeservers::RemoteHomeservers,
        onbind::OnBind,
    },
};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{
    Server, TestClock,
    homeserver::{Answer, Homeserver, authorization, unused_address, user_info_path},
    network::{Network, OTHER_PORT},
    polling::{FLOOD_TURN, until},
    published::{KEYS, key},
    v2,
};

/// How many requests the flood sends, and from how many callers.
const FLOOD: usize = 200;
const CALLERS: usize = 20;
/// The longest wait of a refused request, and of a request that has nothing to do with the flood.
const SOON: Duration = Duration::from_secs(2);
/// One address gets an eighth of at most 512 places.
const MAX_AT_ONE_ADDRESS: usize = 64;

/// The host of a homeserver at the silent address. Half of them are in one registrable domain.
fn silent_host(number: usize) -> String {
    match number % 2 {
        0 => format!("hs{number}.evil.test"),
        _ => format!("evil{number}.test"),
    }
}

/// Sends the flood. Meanwhile somebody registers with a homeserver elsewhere, which then signs a request.
async fn flood(path: &str, request: impl Fn(&Server, &str) -> RequestBuilder) {
    let _turn = FLOOD_TURN.lock().await;
    let network = Network::new();
    let silent_address = unused_address();
    let hosts: Vec<String> = (0..FLOOD).map(silent_host).collect();
    for host in &hosts {
        network.dns.address(host, silent_address);
    }
    let certified: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let silent = network.put((silent_address, OTHER_PORT), &certified, "evil.test");
    silent.answer(path, Answer::Silence);
    let home = format!("{}:{OTHER_PORT}", network.home);
    let home = network.put((network.home, OTHER_PORT), &[&network.home.to_string()], &home);
    let server = Server::start_for(home, |config| {
        config.limits.register_per_ip = Rate::new(10_000, 10_000);
        config.limits.register_per_homeserver = Rate::new(10_000, 10_000);
        config.limits.unbind_per_ip = Rate::new(10_000, 10_000);
    });

    let (server, refused) = (&server, &watch::Sender::new(0));
    let strangers = (0..FLOOD).map(|number| {
        let caller = format!("203.0.113.{}", number % CALLERS);
        let request = request(server, &format!("{}:{OTHER_PORT}", hosts[number]));
        async move {
            let begun = Instant::now();
            let reply = server.send(request.header("x-forwarded-for", caller)).await;
            refused.send_modify(|count| *count += usize::from(reply.status == 429));
            (reply.status.as_u16(), begun.elapsed())
        }
    });
    let honest = async {
        let mut seen = refused.subscribe();
        seen.wait_for(|count| *count >= FLOOD - MAX_AT_ONE_ADDRESS).await.expect("the flood is refused");
        let begun = Instant::now();
        let alice = server.register("alice").await;
        let registered = begun.elapsed();
        let content =
            json!({ "mxid": alice.id, "threepid": { "medium": "email", "address": "alice@example.org" } });
        let header = server.homeserver.sign_request(&v2("/3pid/unbind"), "destination", "id.test", &content);
        let unbind = server.build(Method::POST, &v2("/3pid/unbind")).header("authorization", header);
        server.send(unbind.body(content.to_string())).await.ok();
        (registered, begun.elapsed() - registered)
    };
    let (answers, (registered, unbound)) = tokio::join!(join_all(strangers), honest);

    assert!(registered < SOON && unbound < SOON, "{registered:?}, {unbound:?}");
    let (refused, asked): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 429);
    assert!(refused.iter().all(|(_, time)| *time < SOON), "{refused:?}");
    assert!(asked.iter().all(|(status, _)| *status == 502), "{asked:?}");
    assert!((1..=MAX_AT_ONE_ADDRESS).contains(&asked.len()), "{}", asked.len());
    assert!(silent.connections() <= MAX_AT_ONE_ADDRESS, "{}", silent.connections());
}

#[tokio::test]
async fn registrations_with_a_silent_homeserver_hold_up_no_other() {
    flood(&user_info_path("token"), registration).await;
}

fn registration(server: &Server, name: &str) -> RequestBuilder {
    let body = json!({
        "access_token": "token", "token_type": "Bearer", "matrix_server_name": name, "expires_in": 3600,
    });
    server.build(Method::POST, &v2("/account/register")).body(body.to_string())
}

#[tokio::test]
async fn signed_requests_of_a_silent_homeserver_hold_up_no_other() {
    flood(KEYS, unbind).await;
}

fn unbind(server: &Server, name: &str) -> RequestBuilder {
    let content = json!({
        "mxid": format!("@mallory:{name}"),
        "threepid": { "medium": "email", "address": "mallory@example.org" },
    });
    let header =
        authorization(name, &key("ed25519:hs", 7), &v2("/3pid/unbind"), "destination", "id.test", &content);
    let request = server.build(Method::POST, &v2("/3pid/unbind")).header("authorization", header);
    request.body(content.to_string())
}

/// Registrations with homeservers that never answer, each from the address of its caller. Once all but `most` are
/// refused, runs `honest`. Gives how many were not refused.
async fn strangers_register(
    server: &Server,
    requests: impl Iterator<Item = (String, String)>,
    most: usize,
    honest: impl Future<Output = ()>,
) -> usize {
    let refused = &watch::Sender::new(0);
    let requests: Vec<_> = requests.collect();
    let all = requests.len();
    let strangers = requests.into_iter().map(|(name, caller)| async move {
        let request = registration(server, &format!("{name}:{OTHER_PORT}"));
        let reply = server.send(request.header("x-forwarded-for", caller)).await;
        refused.send_modify(|count| *count += usize::from(reply.status == 429));
    });
    let honest = async {
        let mut seen = refused.subscribe();
        seen.wait_for(|count| *count >= all - most).await.expect("the others are refused");
        honest.await;
    };
    tokio::join!(join_all(strangers), honest);
    all - *refused.borrow()
}

/// Puts homeservers with these hosts at an address.
fn put(network: &Network, address: Ipv4Addr, hosts: &[&str]) -> Homeserver {
    for host in hosts {
        network.dns.address(host, address);
    }
    let double = network.put((address, OTHER_PORT), hosts, &format!("{}:{OTHER_PORT}", hosts[0]));
    double.answer(&user_info_path("token"), Answer::Silence);
    double
}

fn start(home: Homeserver) -> Server {
    Server::start_for(home, |config| {
        config.limits.register_per_ip = Rate::new(10_000, 10_000);
        config.limits.register_per_homeserver = Rate::new(10_000, 10_000);
        config.limits.unbind_per_ip = Rate::new(10_000, 10_000);
    })
}

#[tokio::test]
async fn names_that_strangers_make_up_hold_up_no_user_of_their_domain() {
    let _turn = FLOOD_TURN.lock().await;
    let network = Network::new();
    let junk: Vec<String> = (0..50).map(|number| format!("x{number}.example.test")).collect();
    let silent = put(&network, unused_address(), &junk.iter().map(String::as_str).collect::<Vec<_>>());
    let server = start(put(&network, network.home, &["hs.example.test", "new.example.test"]));
    server.register("alice").await;
    let of_four_networks = junk
        .iter()
        .flat_map(|name| (0..4).map(move |network| (name.clone(), format!("203.0.113.{network}"))));
    let honest = async {
        let begun = Instant::now();
        server.register("bob").await;
        // Not even somebody whose homeserver has not answered yet waits.
        let new = format!("new.example.test:{OTHER_PORT}");
        let token = server.homeserver.openid_token(&format!("@carol:{new}"));
        server.register_with(&new, &token).await.ok();
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    };
    // A sixteenth of the share of their domain for each network.
    let asked = strangers_register(&server, of_four_networks, 4, honest).await;
    assert_eq!(asked, 4);
    assert_eq!(silent.connections(), 4);
}

#[tokio::test]
async fn strangers_at_the_address_of_a_homeserver_hold_up_none_of_its_users() {
    let _turn = FLOOD_TURN.lock().await;
    let network = Network::new();
    // As with a content delivery network.
    let evil: Vec<String> = (0..10).map(|number| format!("hs.evil{number}.test")).collect();
    let hosts = ["hs.test"].into_iter().chain(evil.iter().map(String::as_str)).collect::<Vec<_>>();
    let server = start(put(&network, network.home, &hosts));
    server.register("alice").await;
    let strangers = evil
        .iter()
        .flat_map(|name| (0..CALLERS).map(move |from| (name.clone(), format!("203.0.113.{from}"))));
    let honest = async {
        let begun = Instant::now();
        server.register("bob").await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    };
    let asked = strangers_register(&server, strangers, MAX_AT_ONE_ADDRESS, honest).await;
    assert_eq!(asked, MAX_AT_ONE_ADDRESS);
}

#[tokio::test]
async fn the_keys_of_a_host_are_fetched_four_times_a_minute_for_one_caller_whatever_its_ports() {
    let network = Network::new();
    network.dns.address("victim.example.test", network.web);
    let server = start(put(&network, network.home, &["hs.example.test"]));
    server.register("alice").await;
    let mut statuses = Vec::new();
    for port in 1..=20 {
        let name = format!("victim.example.test:{port}");
        statuses.push(server.send(unbind(&server, &name)).await.status.as_u16());
    }
    assert_eq!(statuses[..4], [502; 4]);
    assert_eq!(statuses[4..], [429; 16]);
    // Its domain is the same, but a homeserver has answered at this name.
    let name = server.homeserver.name().to_owned();
    server.send(unbind(&server, &name)).await.ok();
    server.clock.forward(Duration::from_secs(15));
    let reply = server.send(unbind(&server, "victim.example.test:21")).await;
    assert_eq!(reply.status, 502);
}

#[tokio::test]
async fn users_of_a_homeserver_that_the_operator_names_may_come_together_from_the_start() {
    const USERS: usize = 12;
    for (is_named, expected) in [(true, 8), (false, 1)] {
        let homeserver = Homeserver::start();
        homeserver.answer(&user_info_path("token"), Answer::Silence);
        let name = homeserver.name().to_owned();
        let server = Server::start_for(homeserver, |config| {
            config.homeservers.allow.extend(is_named.then(|| name.clone()));
        });
        let refused = watch::Sender::new(0);
        let users = join_all((0..USERS).map(|_| async {
            server.send(registration(&server, &name)).await.refused(429, "M_LIMIT_EXCEEDED");
            refused.send_modify(|count| *count += 1);
        }));
        let asked = async {
            let mut seen = refused.subscribe();
            seen.wait_for(|count| *count == USERS - expected).await.expect("the others are refused");
            until("the homeserver is asked", async || server.homeserver.connections() == expected).await;
        };
        tokio::select! {
            _ = users => panic!("the homeserver answers nobody"),
            () = asked => {}
        }
    }
}

#[tokio::test]
async fn a_homeserver_for_which_no_place_is_free_is_told_later_and_has_not_failed() {
    const MAX_REQUESTS: usize = 16;
    const TIMEOUT: Duration = Duration::from_secs(20);
    let homeserver = Homeserver::start();
    homeserver.answer("/_matrix/federation/v1/3pid/onbind", Answer::Json(200, json!({})));
    homeserver.answer(&user_info_path("token"), Answer::Silence);
    let clock: Arc<dyn Clock> = TestClock::new();
    let fetch = Fetch::new(Some(&homeserver.authority.file()), MAX_REQUESTS).expect("a configuration");
    let (fetch, dns) = (Arc::new(fetch), Arc::new(Dns::system()));
    let loopback = vec!["127.0.0.0/8".parse().expect("a network")];
    let discovery = Discovery::new(fetch.clone(), dns, loopback, Ports::default(), clock.clone(), TIMEOUT);
    let remote =
        Arc::new(RemoteHomeservers::new(discovery, fetch, clock, TIMEOUT, MAX_REQUESTS, HashSet::new()));
    let server = ServerName::parse(homeserver.name()).expect("a server name");
    // Two of sixteen are the share of an address.
    let strangers = ["203.0.113.1", "203.0.113.2"].map(|from| {
        let (remote, server) = (remote.clone(), server.clone());
        let caller = Caller::of(from.parse().expect("an address"));
        tokio::spawn(async move {
            let token = OpenIdToken::parse("token").expect("a token");
            remote.token_owner(&server, &token, caller).await
        })
    });
    until("the strangers have the places", async || homeserver.connections() == 2).await;
    let tell = async |timeout| remote.on_bind(&server, &json!({}), timeout).await;
    assert_eq!(tell(Duration::ZERO).await, OnBind::NotAsked);
    assert_eq!(homeserver.connections(), 2);
    let told = tell(TIMEOUT);
    let leave = async {
        for stranger in strangers {
            stranger.abort();
            assert!(stranger.await.is_err_and(|error| error.is_cancelled()));
        }
    };
    let (told, ()) = tokio::join!(told, leave);
    assert_eq!(told, OnBind::Delivered);
}
