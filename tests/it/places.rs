//! A flood of requests that make Bindery ask a homeserver which never answers: the flood is refused at once, and
//! other callers of other homeservers do not notice it.

use std::time::{Duration, Instant};

use bindery::domain::bucket::Rate;
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{
    Server,
    homeserver::{Answer, authorization, unused_address, user_info_path},
    network::{Network, OTHER_PORT},
    polling::FLOOD_TURN,
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
    flood(&user_info_path("token"), |server, name| {
        let body = json!({
            "access_token": "token", "token_type": "Bearer", "matrix_server_name": name, "expires_in": 3600,
        });
        server.build(Method::POST, &v2("/account/register")).body(body.to_string())
    })
    .await;
}

#[tokio::test]
async fn signed_requests_of_a_silent_homeserver_hold_up_no_other() {
    flood(KEYS, |server, name| {
        let content = json!({
            "mxid": format!("@mallory:{name}"),
            "threepid": { "medium": "email", "address": "mallory@example.org" },
        });
        let header = authorization(
            name,
            &key("ed25519:hs", 7),
            &v2("/3pid/unbind"),
            "destination",
            "id.test",
            &content,
        );
        let request = server.build(Method::POST, &v2("/3pid/unbind")).header("authorization", header);
        request.body(content.to_string())
    })
    .await;
}
