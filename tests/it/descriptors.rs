//! A flood of requests about a homeserver that never answers, to a server that has as many descriptors as a system
//! gives by default.

use std::{
    net::Ipv4Addr,
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::support::{
    client,
    homeserver::{Answer, Homeserver, unused_address, user_info_path},
    polling::FLOOD_TURN,
    program::{Program, config_file},
    v2,
};

const DESCRIPTORS: usize = 1024;
const FLOOD: usize = 560;
/// The longest wait of a request that has nothing to do with the flood.
const AT_ONCE: Duration = Duration::from_secs(1);
/// What must stay free for the database, its rewrite and the logs.
const SPARE: usize = 32;
/// Half of the 51 places for registrations are for unproven names. A domain gets an eighth of them, a caller's network two.
const MAX_HANGING: usize = 3;

/// What a registration is answered, and how long that takes.
async fn register(
    client: &Client,
    base: &str,
    server_name: &str,
    token: &str,
    caller: &str,
) -> (u16, String, Duration) {
    let begun = Instant::now();
    let body = json!({
        "access_token": token, "token_type": "Bearer", "matrix_server_name": server_name, "expires_in": 3600,
    });
    let request = client.post(format!("{base}{}", v2("/account/register"))).body(body.to_string());
    let response = request.header("x-forwarded-for", caller).send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.text().await.expect("a body"), begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_a_silent_homeserver_leave_descriptors_for_everybody_else() {
    let _turn = FLOOD_TURN.lock().await;
    let (dir, silent) = (TempDir::new().expect("a directory"), Homeserver::start());
    silent.answer(&user_info_path("token"), Answer::Silence);
    let home = unused_address();
    let names = [&*home.to_string()];
    let honest = Homeserver::start_at(silent.authority.clone(), (home, 0).into(), &names, |address| {
        address.to_string()
    });
    let openid_token = honest.openid_token(&format!("@alice:{}", honest.name()));
    let config = config_file(dir.path(), &silent);
    let mut program = Program::start_limited(&config, DESCRIPTORS, 2);
    let (base, client) = (program.base.as_str(), &client());
    let descriptors = format!("/proc/{}/fd", program.child.id());

    let refused = &watch::Sender::new(0);
    let flood = (0..FLOOD).map(|number| {
        let caller = Ipv4Addr::new(203, 0, 113, (number % 100) as u8).to_string();
        let silent = silent.name();
        async move {
            let answer = register(client, base, silent, "token", &caller).await;
            refused.send_modify(|count| *count += usize::from(answer.0 == 429));
            answer
        }
    });
    let meanwhile = async {
        let mut seen = refused.subscribe();
        seen.wait_for(|count| *count >= FLOOD - MAX_HANGING).await.expect("the flood is refused");
        let used = std::fs::read_dir(&descriptors).expect("a process").count();
        let begun = Instant::now();
        let versions = client.get(format!("{base}/_matrix/identity/versions")).send().await;
        assert_eq!(versions.expect("an answer").status(), 200);
        let answered = begun.elapsed();
        let registered = register(client, base, honest.name(), &openid_token, "198.51.100.1").await;
        let mut retention = Command::new(env!("CARGO_BIN_EXE_bindery"));
        retention.args(["retention", "run", "--config"]).arg(&config);
        let retention = tokio::task::spawn_blocking(move || retention.output());
        let retention = retention.await.expect("no panic").expect("the program runs");
        (used, answered, registered, retention)
    };
    let (answers, (used, answered, (status, said, took), retention)) =
        tokio::join!(join_all(flood), meanwhile);

    assert!(answered < AT_ONCE, "{answered:?}");
    assert!(status == 200 && took < AT_ONCE, "{status} {said} {took:?}");
    assert!(retention.status.success(), "{}", String::from_utf8_lossy(&retention.stderr));
    assert!(used + SPARE <= DESCRIPTORS, "{used}");
    let (refused, asked): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, ..)| *status == 429);
    assert!((1..=MAX_HANGING).contains(&asked.len()), "{}", asked.len());
    assert!(asked.iter().all(|(status, _, took)| *status == 502 && *took > AT_ONCE), "{asked:?}");
    let is_at_once = |took: &Duration| *took < Duration::from_secs(2);
    assert!(refused.iter().all(|(_, said, took)| said.contains("M_LIMIT_EXCEEDED") && is_at_once(took)));
    program.stop();
}
