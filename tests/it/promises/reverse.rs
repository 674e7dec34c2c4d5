//! P2: an address finds a Matrix ID, and a Matrix ID never finds an address; not for strangers and
//! not for whoever runs the homeserver and can mint its tokens.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Server, User};

const ADDRESS: &str = "hidden.person@secret-domain.example";

/// Every route with its methods, as `routes.rs` has them.
fn routes() -> Vec<(String, Vec<Method>)> {
    let source = include_str!("../../../src/http/routes.rs");
    let mut prefix = "";
    let mut routes = Vec::new();
    let source: String = source.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in source.split("web::scope(\"").skip(1) {
        let (scope, rest) = part.split_once('"').expect("an end");
        prefix = scope;
        let rest = rest.split(" fn at(").next().expect("a part");
        for route in rest.split("at(").skip(1) {
            let mut quoted = route.split('"');
            let (Some(before), Some(path), Some(_), Some(methods)) =
                (quoted.next(), quoted.next(), quoted.next(), quoted.next())
            else {
                continue;
            };
            if before.trim().is_empty() && path.starts_with('/') {
                // What follows the scopes belongs to the API.
                let prefix = if path.starts_with("/api/v1") { "/_matrix/identity" } else { prefix };
                let methods = methods.split(", ").map(|method| method.parse().expect("a method")).collect();
                routes.push((format!("{prefix}{path}"), methods));
            }
        }
    }
    assert!(!prefix.is_empty() || routes.len() > 20);
    routes
}

#[tokio::test]
async fn p2_a_matrix_id_never_finds_an_address() {
    let server = Server::start_with(|config| {
        config.lookup.allow_none = true;
        config.delegation.allowed_networks = vec!["127.0.0.1/32".parse().expect("a network")];
    })
    .await;
    let owner = server.user("owner").await;
    let sid = server.validate(&owner, ADDRESS, "secret").await;
    let bind = json!({ "sid": sid, "client_secret": "secret", "mxid": owner.id });
    server.post("/3pid/bind", &owner, &bind).await.ok();
    server.request_token(&owner, ADDRESS, "unfinished", 1).await;
    // What the homeserver can have: a token of its own for the same account.
    let minted = server.user("owner").await;
    assert_ne!(minted.token, owner.token);
    let stranger = server.user("stranger").await;
    let pepper = server.get("/hash_details", &owner).await.ok()["lookup_pepper"].clone();

    let routes = routes();
    assert!(routes.len() > 30, "{routes:?}");
    let mut answered = 0;
    for (path, methods) in &routes {
        for method in methods {
            // Those who erase come last.
            if *method == Method::DELETE {
                continue;
            }
            for token in [Some(&minted), Some(&stranger), None] {
                answered += usize::from(ask(&server, method, path, token, &owner, &pepper).await);
            }
        }
    }
    assert!(answered > 20, "only {answered} requests were answered with success");
}

/// Asks a route for everything that a Matrix ID could lead to.
async fn ask(
    server: &Server,
    method: &Method,
    path: &str,
    token: Option<&User>,
    owner: &User,
    pepper: &Value,
) -> bool {
    let name =
        path.replace("{token}", &owner.id).replace("{key_id}", "ed25519:0").replace("{file}", "style.css");
    let name = name.replace("{version}", "1").replace("{lang}", "en");
    let id = &owner.id;
    let query = serde_urlencoded::to_string([
        ("mxid", id.as_str()),
        ("user_id", id),
        ("address", id),
        ("sid", id),
        ("client_secret", "secret"),
        ("token", id),
        ("public_key", id),
        ("q", id),
    ])
    .expect("a query");
    let body = json!({
        "mxid": id, "user_id": id, "sender": id, "medium": "email", "address": id, "email": id,
        "addresses": [id, format!("{id} email"), format!("{id} mxid")], "algorithm": "none", "pepper": pepper,
        "room_id": "!a:b", "sid": id, "client_secret": "secret", "token": id, "private_key": id,
        "send_attempt": 1, "threepid": { "medium": "email", "address": id }, "user_accepts": [id],
    });
    let body = (*method == Method::POST).then_some(&body);
    let token = token.map(|user| user.token.as_str());
    let reply = server.request(method.clone(), &format!("{name}?{query}"), token, body).await;
    let seen = format!("{}{:?}", reply.text, reply.headers).to_lowercase();
    for part in [ADDRESS, "hidden.person", "secret-domain"] {
        assert!(!seen.contains(part), "{method} {path} shows {part}: {seen}");
    }
    reply.status.is_success()
}
