//! Answers `/versions` and the ping.

use serde_json::json;

use super::{Answer, empty, json};

/// The versions of the specification whose Identity Service API Bindery implements. The first is the one that
/// added `/versions` and v2; none since then breaks clients.
const VERSIONS: &[&str] = &[
    "r0.3.0", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11",
    "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// `GET /_matrix/identity/versions`
pub async fn versions() -> Answer {
    json(json!({ "versions": VERSIONS }))
}

/// `GET /_matrix/identity/v2`
pub async fn ping() -> Answer {
    empty()
}
