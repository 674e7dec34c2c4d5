//! Each endpoint of the specification: a success, a refusal, and correct HTTP (HEAD, OPTIONS, 404, 405).

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{
    Server,
    gateway::Gateway,
    invited::sign_url,
    openapi::{endpoints, matches},
    v2,
};

/// The endpoints that need a token of an account that has accepted the terms.
pub const NEED_CONSENT: &[(Method, &str)] = &[
    (Method::GET, "/account"),
    (Method::GET, "/hash_details"),
    (Method::POST, "/lookup"),
    (Method::POST, "/validate/email/requestToken"),
    (Method::POST, "/validate/email/submitToken"),
    (Method::POST, "/validate/msisdn/requestToken"),
    (Method::POST, "/validate/msisdn/submitToken"),
    (Method::GET, "/3pid/getValidated3pid"),
    (Method::POST, "/3pid/bind"),
    (Method::POST, "/store-invite"),
];

#[tokio::test]
async fn every_endpoint_answers_well_and_badly() {
    let gateway = Gateway::start();
    let server = Server::start_with(|config| gateway.configure(config)).await;
    let user = server.user("alice").await;
    let sid = server.request_token(&user, "alice@example.org", "secret", 1).await;
    let token = server.mails()[0].token();
    let key =
        server.get("/pubkey/ed25519:0", &user).await.ok()["public_key"].as_str().expect("a key").to_owned();
    let pepper = server.get("/hash_details", &user).await.ok()["lookup_pepper"].clone();
    let registration = json!({
        "access_token": server.homeserver.openid_token(&user.id),
        "token_type": "Bearer", "matrix_server_name": server.homeserver.name(), "expires_in": 3600,
    });
    let session = json!({ "sid": sid, "client_secret": "secret" });
    let with = |extra: Value| {
        let mut body = session.clone();
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        body
    };
    let threepid = json!({ "medium": "email", "address": "alice@example.org" });
    let email = json!({ "email": "b@example.org", "client_secret": "s", "send_attempt": 1 });
    let query = format!("sid={sid}&client_secret=secret");
    let phone = |country: &str| json!({ "country": country, "phone_number": "07400 123456", "client_secret": "phone", "send_attempt": 1 });
    let phone_sid =
        server.post("/validate/msisdn/requestToken", &user, &phone("GB")).await.ok()["sid"].clone();
    let phone_sid = phone_sid.as_str().expect("a sid");
    let code = |code: &str| json!({ "sid": phone_sid, "client_secret": "phone", "token": code });
    let phone_query = format!("sid={phone_sid}&client_secret=phone&token");
    let invite = |medium: &str| json!({ "medium": medium, "address": "c@example.org", "room_id": "!room:hs.test", "sender": user.id });
    server.post("/store-invite", &user, &invite("email")).await.ok();
    let sign_url = sign_url(&server.mail_to("c@example.org", 0).await);

    // In the order of a typical use: method, path, body, expected status.
    let calls: Vec<(Method, String, Option<Value>, u16)> = vec![
        (Method::GET, "/_matrix/identity/versions".to_owned(), None, 200),
        (Method::GET, v2(""), None, 200),
        (Method::POST, v2("/account/register"), Some(json!({})), 400),
        (Method::POST, v2("/account/register"), Some(registration), 200),
        (Method::GET, v2("/account"), None, 200),
        (Method::GET, v2("/terms"), None, 200),
        (Method::POST, v2("/terms"), Some(json!({ "user_accepts": "no list" })), 400),
        (Method::POST, v2("/terms"), Some(json!({ "user_accepts": [] })), 200),
        (Method::GET, v2("/pubkey/ed25519:0"), None, 200),
        (Method::GET, v2("/pubkey/ed25519:9"), None, 404),
        (Method::GET, v2(&format!("/pubkey/isvalid?public_key={}", key.replace('+', "%2B"))), None, 200),
        (Method::GET, v2("/pubkey/isvalid"), None, 400),
        (Method::GET, v2("/pubkey/ephemeral/isvalid?public_key=a"), None, 200),
        (Method::GET, v2("/pubkey/ephemeral/isvalid"), None, 400),
        (Method::GET, v2("/hash_details"), None, 200),
        (
            Method::POST,
            v2("/lookup"),
            Some(json!({ "algorithm": "rot13", "pepper": pepper, "addresses": [] })),
            400,
        ),
        (
            Method::POST,
            v2("/lookup"),
            Some(json!({ "algorithm": "sha256", "pepper": "old", "addresses": [] })),
            400,
        ),
        (
            Method::POST,
            v2("/lookup"),
            Some(json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [] })),
            200,
        ),
        (Method::POST, v2("/validate/email/requestToken"), Some(email), 200),
        (Method::POST, v2("/validate/email/requestToken"), Some(json!({ "email": "x" })), 400),
        (Method::GET, v2(&format!("/3pid/getValidated3pid?{query}")), None, 400),
        (Method::POST, v2("/3pid/bind"), Some(with(json!({ "mxid": user.id }))), 400),
        (Method::POST, v2("/validate/email/submitToken"), Some(with(json!({ "token": "wrong" }))), 400),
        (Method::POST, v2("/validate/email/submitToken"), Some(with(json!({ "token": token }))), 200),
        (Method::GET, v2(&format!("/validate/email/submitToken?{query}&token={token}")), None, 200),
        (Method::GET, v2(&format!("/validate/email/submitToken?{query}&token=wrong")), None, 404),
        (Method::GET, v2(&format!("/3pid/getValidated3pid?{query}")), None, 200),
        (Method::GET, v2("/3pid/getValidated3pid?sid=none&client_secret=secret"), None, 404),
        (Method::POST, v2("/3pid/bind"), Some(with(json!({ "mxid": user.id }))), 200),
        (
            Method::POST,
            v2("/3pid/bind"),
            Some(json!({ "sid": "x", "client_secret": "secret", "mxid": user.id })),
            404,
        ),
        (Method::POST, v2("/3pid/unbind"), Some(json!({ "mxid": user.id, "threepid": threepid })), 403),
        (Method::POST, v2("/3pid/unbind"), Some(with(json!({ "mxid": user.id, "threepid": threepid }))), 200),
        (Method::POST, v2("/validate/msisdn/requestToken"), Some(phone("GB")), 200),
        (Method::POST, v2("/validate/msisdn/requestToken"), Some(phone("ZZ")), 400),
        (Method::POST, v2("/validate/msisdn/submitToken"), Some(code("000000x")), 400),
        (Method::POST, v2("/validate/msisdn/submitToken"), Some(code(&gateway.code())), 200),
        (
            Method::GET,
            v2(&format!("/validate/msisdn/submitToken?{phone_query}={}", gateway.code())),
            None,
            200,
        ),
        (Method::GET, v2(&format!("/validate/msisdn/submitToken?{phone_query}=x")), None, 404),
        (Method::POST, v2("/store-invite"), Some(invite("email")), 200),
        (Method::POST, v2("/store-invite"), Some(invite("msisdn")), 400),
        (Method::POST, format!("{}&mxid=%40c%3Ahs.test", sign_url.replace("/api/v1", "/v2")), None, 200),
        (Method::POST, v2("/sign-ed25519?token=x&private_key=x&mxid=%40c%3Ahs.test"), None, 404),
        (Method::POST, v2("/account/logout"), Some(json!({})), 200),
        (Method::POST, v2("/account/logout"), Some(json!({})), 401),
        (Method::GET, v2("/account"), None, 401),
    ];
    let mut seen = Vec::new();
    for (method, path, body, expected) in calls {
        let reply = server.request(method.clone(), &path, Some(&user.token), body.as_ref()).await;
        assert_eq!(reply.status.as_u16(), expected, "{method} {path}: {}", reply.text);
        seen.push((method, path.split('?').next().unwrap_or_default().to_owned(), expected));
    }
    let never_fail = ["/versions", "/v2", "/terms", "/hash_details"];
    for endpoint in endpoints() {
        let statuses: Vec<u16> = seen
            .iter()
            .filter(|(method, path, _)| *method == endpoint.method && matches(&endpoint.path, path))
            .map(|(_, _, status)| *status)
            .collect();
        assert!(statuses.contains(&200), "{} {} never answered well", endpoint.method, endpoint.path);
        let may_fail =
            !(endpoint.method == Method::GET && never_fail.iter().any(|end| endpoint.path.ends_with(end)));
        assert!(!may_fail || statuses.iter().any(|status| *status >= 400), "{} never refused", endpoint.path);
    }
}

#[tokio::test]
async fn what_needs_a_token_says_so() {
    let server = Server::start().await;
    let before_consent = [(Method::POST, "/account/logout"), (Method::POST, "/terms")];
    for (method, path) in before_consent.iter().chain(NEED_CONSENT) {
        let body = (*method == Method::POST).then(|| json!({}));
        let reply = server.request(method.clone(), &v2(path), None, body.as_ref()).await;
        reply.refused(401, "M_UNAUTHORIZED");
        let expected = if *path == "/account/logout" { "M_UNKNOWN_TOKEN" } else { "M_UNAUTHORIZED" };
        server
            .request(method.clone(), &v2(path), Some("unknown"), body.as_ref())
            .await
            .refused(401, expected);
        for header in
            ["Basic abc", "Bearer", "Bearer ", "Bearer \u{e4}", "bearer\ttoken", "X-Matrix origin=a"]
        {
            let request = server.build(method.clone(), &v2(path)).header("authorization", header.as_bytes());
            let reply = server.send(request.body("{}")).await;
            assert_eq!(reply.status, 401, "{header}: {}", reply.text);
        }
    }
}

#[tokio::test]
async fn hash_details_still_takes_the_token_from_the_query_and_nothing_else_does() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    let path = |path: &str| v2(&format!("{path}?access_token={}", user.token));
    server.request(Method::GET, &path("/hash_details"), None, None).await.ok();
    server.request(Method::GET, &path("/account"), None, None).await.refused(401, "M_UNAUTHORIZED");
    let unknown = v2("/hash_details?access_token=unknown");
    server.request(Method::GET, &unknown, None, None).await.refused(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_matrix_errors() {
    let server = Server::start().await;
    for path in
        ["/_matrix/identity/v2/nothing", "/_matrix/identity", "/_matrix/identity/api/v1/lookup", "/nothing"]
    {
        server.request(Method::GET, path, None, None).await.refused(404, "M_UNRECOGNIZED");
        server.request(Method::POST, path, None, None).await.refused(404, "M_UNRECOGNIZED");
    }
    for (method, path) in [
        (Method::GET, "/_matrix/identity/v2/lookup"),
        (Method::PUT, "/_matrix/identity/v2/terms"),
        (Method::DELETE, "/_matrix/identity/v2/3pid/bind"),
        (Method::POST, "/_matrix/identity/versions"),
        (Method::PUT, "/c/x"),
    ] {
        let reply = server.request(method, path, None, None).await;
        assert!(reply.headers.contains_key("allow"), "{path}");
        reply.refused(405, "M_UNRECOGNIZED");
    }
    let link = "/_matrix/identity/v2/validate/email/submitToken";
    assert_eq!(server.request(Method::HEAD, link, None, None).await.status, 405, "a look must not validate");
}

#[tokio::test]
async fn browsers_may_call_the_api_and_not_the_pages() {
    let server = Server::start().await;
    for path in
        ["/_matrix/identity/v2/lookup", "/_matrix/identity/v2/pubkey/x", "/_matrix/identity/v2/nothing"]
    {
        let preflight = server
            .build(Method::OPTIONS, path)
            .header("origin", "https://app.test")
            .header("access-control-request-method", "POST");
        let reply = server.send(preflight).await;
        assert!(reply.status.is_success(), "{path}: {}", reply.status);
        assert_eq!(reply.headers["access-control-allow-origin"], "*");
        assert_eq!(reply.headers["access-control-allow-methods"], "GET, POST, PUT, DELETE, OPTIONS");
        let allowed = reply.headers["access-control-allow-headers"].to_str().expect("text");
        assert_eq!(allowed, "Origin, X-Requested-With, Content-Type, Accept, Authorization");
    }
    for path in ["/", "/c/x", "/stop/x"] {
        let reply = server.request(Method::GET, path, None, None).await;
        assert!(reply.headers.get("access-control-allow-origin").is_none(), "{path}");
    }
}

#[tokio::test]
async fn get_means_head_as_well() {
    let server = Server::start().await;
    for path in ["/", "/_matrix/identity/v2", "/_matrix/identity/versions"] {
        let reply = server.request(Method::HEAD, path, None, None).await;
        assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, ""), "{path}");
    }
}

#[tokio::test]
async fn forms_are_read_where_the_specification_allows_them() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    let form = async |path: &str, form: String| {
        let request = server.build(Method::POST, &v2(path)).bearer_auth(&user.token);
        let request =
            request.header("content-type", "application/x-www-form-urlencoded; charset=utf-8").body(form);
        server.send(request).await
    };
    let body = "email=Alice%40example.org&client_secret=secret&send_attempt=1".to_owned();
    let sid =
        form("/validate/email/requestToken", body).await.ok()["sid"].as_str().expect("a sid").to_owned();
    let session = format!("sid={sid}&client_secret=secret");
    let token = server.mails()[0].token();
    form("/validate/email/submitToken", format!("{session}&token={token}")).await.ok();
    let mxid = user.id.replace('@', "%40").replace(':', "%3A");
    let bound = form("/3pid/bind", format!("{session}&mxid={mxid}")).await.ok();
    assert_eq!(bound["address"], "alice@example.org");
    form("/lookup", "algorithm=sha256".to_owned()).await.refused(400, "M_NOT_JSON");
    form("/3pid/bind", "sid=%ff&sid=".to_owned()).await.refused(400, "M_INVALID_PARAM");
}
