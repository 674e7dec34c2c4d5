//! Validation mail, from `requestToken` to the relay: delivery, contents, when a session sends one, the
//! operator's templates, and what the log must not contain.

mod delivery;
mod log;
mod message;
mod notices;
mod sessions;
mod snapshots;
mod templates;

use serde_json::{Value, json};

use crate::support::{Reply, Server, User};

const REQUEST: &str = "/validate/email/requestToken";

/// The body of `requestToken`.
fn wanted(address: &str, secret: &str, attempt: u64) -> Value {
    json!({ "email": address, "client_secret": secret, "send_attempt": attempt })
}

async fn request(server: &Server, user: &User, address: &str, attempt: u64) -> Reply {
    server.post(REQUEST, user, &wanted(address, "secret", attempt)).await
}

fn sid(answer: &Value) -> &str {
    answer["sid"].as_str().expect("a sid")
}
