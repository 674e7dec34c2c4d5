//! Requests to a running server, on every route that parses a JSON body, a form or a query string, except logout, which
//! would end the session. The first byte chooses the route, the second the form of the rest.
#![no_main]

use std::{
    net::SocketAddr,
    path::Path,
    sync::{LazyLock, mpsc},
    thread,
};

use bindery::{
    app::{Application, Environment},
    config::Config,
    domain::{
        ids::{Token, UserId},
        time::Millis,
    },
    ops::genesis,
    remote::dns::Dns,
    store::Store,
};
use libfuzzer_sys::fuzz_target;
use reqwest::{Client, Method, Response, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

const API: &str = "/_matrix/identity";
/// Routes with a body.
const POSTS: &[&str] = &[
    "/_matrix/identity/v2/account/register",
    "/_matrix/identity/v2/terms",
    "/_matrix/identity/v2/lookup",
    "/_matrix/identity/v2/validate/email/requestToken",
    "/_matrix/identity/v2/validate/msisdn/requestToken",
    "/_matrix/identity/v2/validate/email/submitToken",
    "/_matrix/identity/v2/validate/msisdn/submitToken",
    "/_matrix/identity/v2/3pid/bind",
    "/_matrix/identity/v2/3pid/unbind",
    "/_matrix/identity/v2/store-invite",
    "/_matrix/identity/v2/sign-ed25519",
    SIGN_BY_LINK,
    "/_matrix/identity/api/v1/validate/msisdn/requestToken",
    "/_matrix/identity/api/v1/validate/msisdn/submitToken",
    "/c/email",
    "/stop/x",
    "/me",
    "/me/visit/x",
    "/me/withdraw",
    "/me/erase",
    "/me/language",
    "/me/suppress",
    "/me/allow",
    "/me/export",
    "/me/close",
];
/// Routes with a query string. All are requested with GET except [`SIGN_BY_LINK`].
const QUERIES: &[&str] = &[
    "/_matrix/identity/v2/hash_details",
    "/_matrix/identity/v2/account",
    "/_matrix/identity/v2/pubkey/isvalid",
    "/_matrix/identity/v2/pubkey/ephemeral/isvalid",
    "/_matrix/identity/v2/validate/email/submitToken",
    "/_matrix/identity/v2/3pid/getValidated3pid",
    "/_matrix/identity/api/v1/3pid/getValidated3pid",
    "/c/email",
    "/privacy",
    "/me",
    "/",
    "/stop/x",
    "/me/visit/x",
    "/me/data",
    "/me/erase",
    "/_matrix/identity/api/v1/pubkey/isvalid",
    "/_matrix/identity/api/v1/pubkey/ephemeral/isvalid",
    SIGN_BY_LINK,
];
const SIGN_BY_LINK: &str = "/_matrix/identity/api/v1/sign-ed25519";
const TOKEN: &str = "token-of-alice";

struct Fuzzed {
    runtime: Runtime,
    client: Client,
    base: String,
}

/// A server that opens no connection: the only homeserver that it allows has no address, and mails become files.
fn config(data_dir: &Path) -> Config {
    let mut config = Config { data_dir: data_dir.to_owned(), ..Config::default() };
    config.http.listen = vec!["127.0.0.1:0".to_owned()];
    config.http.workers = 1;
    config.homeservers.allow = vec!["hs.test".to_owned()];
    config.delegation.allowed_networks = vec!["127.0.0.0/8".parse().expect("a network")];
    config.log.level = "off".to_owned();
    config
}

fn start(data_dir: &Path, runtime: &Runtime) -> SocketAddr {
    let config = config(data_dir);
    config.check().expect("a good configuration");
    let store = Store::open(data_dir, 1 << 20, &config.name(), || genesis(Millis(1))).expect("a database");
    let (token, alice) =
        (Token::parse(TOKEN).expect("a token"), UserId::parse("@alice:hs.test").expect("an ID"));
    let now = Environment::default().clock.now();
    runtime.block_on(store.write(move |tables| tables.put_token(&token, &alice, now))).expect("written");
    drop(store);
    let (built, started) = mpsc::channel();
    thread::spawn(move || {
        // Nothing listens there.
        let dns = Dns::asking(([127, 0, 0, 1], 9).into()).expect("a resolver");
        let environment = Environment { dns: Some(std::sync::Arc::new(dns)), ..Environment::default() };
        let application = Application::build(config, environment).expect("it starts");
        built.send(application.addresses()[0]).expect("the caller waits");
        application.run_until(std::future::pending()).expect("it runs");
    });
    started.recv().expect("it starts")
}

impl Fuzzed {
    fn start() -> Self {
        // The client wants one, although it only speaks HTTP.
        rustls::crypto::ring::default_provider().install_default().expect("there is none yet");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let directory = tempfile::TempDir::new().expect("a directory").keep();
        let base = format!("http://{}", start(&directory, &runtime));
        let fuzzed = Self { runtime, client: Client::new(), base };
        fuzzed.accept_terms();
        fuzzed
    }

    fn accept_terms(&self) {
        let path = format!("{API}/v2/terms");
        let terms: Value = serde_json::from_slice(&self.send(Method::GET, &path, "", b"").1).expect("JSON");
        let documents = terms["policies"].as_object().expect("policies").values();
        let urls: Vec<&Value> = documents.map(|document| &document["en"]["url"]).collect();
        let accepted = json!({ "user_accepts": urls }).to_string();
        assert_eq!(self.send(Method::POST, &path, "application/json", accepted.as_bytes()).0, 200);
        assert_eq!(self.send(Method::GET, &format!("{API}/v2/account"), "", b"").0, 200);
    }

    fn send(&self, method: Method, path: &str, media_type: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.bearer_auth(TOKEN).header(CONTENT_TYPE, media_type).body(body.to_vec());
        self.runtime.block_on(async {
            let response: Response = request.send().await.expect("the server answers");
            (response.status().as_u16(), response.bytes().await.expect("a whole answer").to_vec())
        })
    }
}

/// The bytes as a query string. Signs of encoding stay, also where they encode nothing.
fn in_url(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'=' | b'&' | b'+' | b'%' | b'.' | b'_' | b'-' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        other => format!("%{other:02x}"),
    };
    bytes.iter().map(encode).collect()
}

static SERVER: LazyLock<Fuzzed> = LazyLock::new(Fuzzed::start);

fuzz_target!(|input: &[u8]| {
    let [route, form, rest @ ..] = input else { return };
    let route = usize::from(*route);
    let post = || POSTS[route % POSTS.len()].to_owned();
    let (method, path, media_type, body) = match form % 3 {
        0 => (Method::POST, post(), "application/json", rest),
        1 => (Method::POST, post(), "application/x-www-form-urlencoded", rest),
        _ => {
            let path = QUERIES[route % QUERIES.len()];
            let method = if path == SIGN_BY_LINK { Method::POST } else { Method::GET };
            (method, format!("{path}?{}", in_url(rest)), "", &[][..])
        }
    };
    let is_post = method == Method::POST;
    let (status, answer) = SERVER.send(method, &path, media_type, body);
    // 502: the homeserver has no address.
    assert!(status < 500 || status == 502, "{path}: {status}");
    if is_post && status >= 400 && path.starts_with(API) {
        let refusal: Value = serde_json::from_slice(&answer).expect("JSON");
        assert!(refusal["errcode"].is_string(), "{path}: {refusal}");
    }
});
