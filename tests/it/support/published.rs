//! A server on which Alice has published an address, and requests that withdraw it in the name of
//! her homeserver.

use bindery::domain::{bucket::Rate, secret::Key32, signing::KeyPair};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Reply, Server, User, homeserver::authorization, v2};

/// Where a homeserver publishes its keys.
pub const KEYS: &str = "/_matrix/key/v2/server";
/// The address that Alice has published.
pub const ADDRESS: &str = "alice@example.org";

/// A server that has published Alice's address.
pub struct Published {
    pub server: Server,
    pub alice: User,
}

impl Published {
    pub async fn new() -> Self {
        let server = Server::start_with(|config| {
            config.aliases = vec!["id-alias.test:8448".to_owned()];
            config.limits.unbind_per_ip = Rate::new(10_000, 10_000);
        })
        .await;
        let alice = server.user("alice").await;
        server.bind(&alice, ADDRESS, "secret").await;
        Self { server, alice }
    }

    pub fn content(&self) -> Value {
        json!({ "mxid": self.alice.id, "threepid": { "medium": "email", "address": ADDRESS } })
    }

    /// A header as a homeserver would send it for [`Published::content`].
    pub fn header(&self) -> String {
        self.server.homeserver.sign_request(&v2("/3pid/unbind"), "destination", "id.test", &self.content())
    }

    /// A header for [`Published::content`] that is signed with another key.
    pub fn header_by(&self, key: &KeyPair) -> String {
        let uri = v2("/3pid/unbind");
        authorization(self.server.homeserver.name(), key, &uri, "destination", "id.test", &self.content())
    }

    pub async fn unbind(&self, header: &str, content: &Value) -> Reply {
        self.unbind_at(&v2("/3pid/unbind"), header.as_bytes(), content).await
    }

    pub async fn unbind_at(&self, uri: &str, header: &[u8], content: &Value) -> Reply {
        let request = self.server.build(Method::POST, uri).header("content-type", "application/json");
        self.server.send(request.header("authorization", header).body(content.to_string())).await
    }

    pub async fn is_published(&self) -> bool {
        let found = self.server.find(&self.alice, ADDRESS).await;
        assert!(found.is_none() || found.as_deref() == Some(&*self.alice.id));
        found.is_some()
    }

    /// Asserts that this header does not do.
    pub async fn refused(&self, header: &str, content: &Value) {
        let reply = self.unbind(header, content).await;
        assert_eq!((reply.status.as_u16(), reply.errcode().as_str()), (403, "M_FORBIDDEN"), "{header}");
        for word in ["127.0.0.1", "connect", "certificate"] {
            assert!(!reply.text.contains(word), "{}", reply.text);
        }
    }

    /// Asserts that a good request is accepted, which changes nothing but the binding.
    pub async fn accepted(&self, header: &str) {
        let reply = self.unbind(header, &self.content()).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({})), "{header}");
    }

    pub fn keys_fetched(&self) -> usize {
        self.server.homeserver.times_asked(KEYS)
    }
}

/// A pair with this seed; [`Homeserver`](super::homeserver::Homeserver)s have the one of 7.
pub fn key(id: &str, seed: u8) -> KeyPair {
    KeyPair::new(id, &Key32::new([seed; 32]))
}
