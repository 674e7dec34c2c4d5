//! Consent: nothing works before it, accepting one language is enough, and a new version asks again.

use reqwest::Method;
use serde_json::json;

use crate::{
    endpoints::NEED_CONSENT,
    support::{Server, User, terms, v2},
};

async fn accept(server: &Server, user: &User, urls: &[&str]) {
    server.post("/terms", user, &json!({ "user_accepts": urls })).await.ok();
}

#[tokio::test]
async fn the_terms_gate_everything_but_terms_logout_and_unbind() {
    let server = Server::start().await;
    let user = server.register("alice").await;
    for (method, path) in NEED_CONSENT {
        let body = (*method == Method::POST).then(|| json!({}));
        let reply = server.request(method.clone(), &v2(path), Some(&user.token), body.as_ref()).await;
        reply.refused(403, "M_TERMS_NOT_SIGNED");
    }
    server.get("/terms", &user).await.ok();
    accept(&server, &user, &["https://elsewhere.test/"]).await;
    server.get("/account", &user).await.refused(403, "M_TERMS_NOT_SIGNED");
    let threepid = json!({ "medium": "email", "address": "a@example.org" });
    let unbind = json!({ "sid": "x", "client_secret": "s", "mxid": user.id, "threepid": threepid });
    server.post("/3pid/unbind", &user, &unbind).await.refused(403, "M_FORBIDDEN");
    server.post("/account/logout", &user, &json!({})).await.ok();
}

#[tokio::test]
async fn any_language_counts_and_documents_are_accepted_one_by_one() {
    let server = Server::start_with(|config| {
        let mut second = terms("1");
        for text in second.languages.values_mut() {
            text.url = text.url.replace("terms", "privacy");
        }
        config.terms.insert("privacy".to_owned(), second);
    });
    let server = server.await;
    let user = server.register("alice").await;
    accept(&server, &user, &["https://id.test/terms/1/de"]).await;
    server.get("/account", &user).await.refused(403, "M_TERMS_NOT_SIGNED");
    accept(&server, &user, &["https://id.test/privacy/1/en"]).await;
    server.get("/account", &user).await.ok();
    // The consent belongs to the account, not to the token.
    server.get("/account", &server.register("alice").await).await.ok();
    server.get("/account", &server.register("bob").await).await.refused(403, "M_TERMS_NOT_SIGNED");
}

#[tokio::test]
async fn a_new_version_has_to_be_accepted_again() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    let server = server.restart(|config| {
        config.terms.insert("terms".to_owned(), terms("2"));
    });
    server.get("/account", &user).await.refused(403, "M_TERMS_NOT_SIGNED");
    accept(&server, &user, &["https://id.test/terms/1/en"]).await;
    server.get("/account", &user).await.refused(403, "M_TERMS_NOT_SIGNED");
    accept(&server, &user, &["https://id.test/terms/2/en"]).await;
    server.get("/account", &user).await.ok();
}
