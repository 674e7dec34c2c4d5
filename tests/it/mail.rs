//! Validation mail, from `requestToken` to the relay: delivery, contents, when a session sends one, the
//! operator's templates, and what the log must not contain.

mod delivery;
mod log;
mod message;
mod notices;
mod sessions;
mod snapshots;
mod templates;

use bindery::{config::Config, domain::bucket::Rate};
use serde_json::{Value, json};

use crate::support::{Reply, Server, User, smtp::Relay};

const REQUEST: &str = "/validate/email/requestToken";

/// The body of `requestToken`.
fn wanted(address: &str, secret: &str, attempt: u64) -> Value {
    json!({ "email": address, "client_secret": secret, "send_attempt": attempt })
}

async fn request(server: &Server, user: &User, address: &str, attempt: u64) -> Reply {
    server.post(REQUEST, user, &wanted(address, "secret", attempt)).await
}

/// A server that sends through `relay`.
pub async fn server_behind(relay: &Relay, change: impl FnOnce(&mut Config)) -> Server {
    let setup = |config: &mut Config| {
        relay.configure(config);
        unlimited(config);
        change(config);
    };
    Server::start_with(setup).await
}

/// Raises the rate limits, which other tests check.
pub fn unlimited(config: &mut Config) {
    let rate = Rate::new(10_000, 10_000);
    let limits = &mut config.limits;
    limits.request_token_per_account = rate;
    limits.request_token_per_account_and_address = rate;
    limits.request_token_per_address = rate;
    limits.request_token_per_ip = rate;
    limits.submit_token_per_ip = rate;
    limits.invite_per_account = rate;
    limits.invite_per_address = rate;
    limits.invite_per_homeserver = rate;
    limits.invite_per_ip = rate;
}

fn sid(answer: &Value) -> &str {
    answer["sid"].as_str().expect("a sid")
}
