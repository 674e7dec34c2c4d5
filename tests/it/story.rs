//! The main use of the server from beginning to end, with the successful answer of each endpoint.

use reqwest::Method;
use serde_json::json;

use crate::support::{Server, v2};

#[tokio::test]
async fn an_address_is_verified_published_found_and_withdrawn() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);

    let sid = server.validate(&alice, "Alice@Example.ORG", "secret").await;
    assert_eq!(server.mails()[0].to, "alice@example.org");
    assert_eq!(server.find(&bob, "alice@example.org").await, None, "validation publishes nothing");

    let body = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id });
    let association = server.post("/3pid/bind", &alice, &body).await.ok();
    assert_eq!(association["address"], "alice@example.org");
    assert_eq!(association["mxid"], json!(alice.id));
    assert_eq!(server.find(&bob, "alice@example.org").await, Some(alice.id.clone()));

    let threepid = json!({ "medium": "email", "address": "alice@example.org" });
    let body = json!({ "sid": sid, "client_secret": "secret", "mxid": alice.id, "threepid": threepid });
    server.request(Method::POST, &v2("/3pid/unbind"), None, Some(&body)).await.ok();
    assert_eq!(server.find(&bob, "alice@example.org").await, None);
}
