//! What every test stands on: a running server on port 0 with a clock that the test moves, a
//! homeserver double beside it, and a client that checks every answer against the specification.

pub mod core;
pub mod dns;
pub mod gateway;
pub mod homeserver;
pub mod invited;
pub mod jobs;
pub mod markup;
pub mod network;
pub mod openapi;
pub mod passing;
pub mod polling;
pub mod program;
pub mod published;
pub mod smtp;
pub mod storage;
#[cfg(feature = "import")]
pub mod sydent;
pub mod tls;
pub mod words;

use std::{
    fs,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bindery::{
    app::{Application, Environment, PassedSockets},
    config::Config,
    domain::{
        clock::Clock,
        terms::{Document, Text},
        time::Millis,
    },
};
use mail_parser::MessageParser;
use memchr::memmem;
use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::homeserver::Homeserver;

/// How often tasks look at the test's clock.
const TICK: Duration = Duration::from_millis(20);

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_800_000_000_000)))
    }

    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    pub fn back(&self, by: Duration) {
        self.0.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

/// The files of a directory, in all its folders, that hold these bytes somewhere.
pub fn files_with(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("readable")) {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if kind.is_file() && memmem::find(&fs::read(&path).expect("readable"), bytes).is_some() {
            found.push(path);
        }
    }
    found
}

/// A running server.
pub struct Server {
    pub base: String,
    /// Where it listens: in the clear, then with TLS.
    pub addresses: Vec<SocketAddr>,
    /// The URL of its metrics.
    metrics: String,
    pub clock: Arc<TestClock>,
    pub homeserver: Homeserver,
    pub config: Config,
    client: Client,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    may_leave_jobs: bool,
    _dir: Arc<TempDir>,
}

/// An account of the homeserver double that has registered and accepted the terms.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub token: String,
}

/// An answer of the server.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The error code; empty if this is no error.
    pub fn errcode(&self) -> String {
        self.json()["errcode"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    #[track_caller]
    pub fn refused(self, status: u16, errcode: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.errcode().as_str()), (status, errcode), "{}", self.text);
        self.json()
    }
}

/// A mail that the server sent.
pub struct Mail {
    pub raw: Vec<u8>,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
}

impl Mail {
    pub fn parse(raw: Vec<u8>) -> Self {
        let message = MessageParser::default().parse(&raw).expect("a mail");
        let to =
            message.to().and_then(|to| to.first()).and_then(|to| to.address()).unwrap_or_default().to_owned();
        let subject = message.subject().unwrap_or_default().to_owned();
        let text = message.body_text(0).unwrap_or_default().into_owned();
        let has_html = message.html_part(0).is_some_and(|part| part.is_text_html());
        let html = has_html.then(|| message.body_html(0).unwrap_or_default().into_owned());
        Self { to, subject, text, html, raw }
    }

    /// The link to the confirm page, without the server's base URL.
    pub fn link(&self) -> String {
        self.path("/c/")
    }

    /// The first link with this path before its secret, without the server's base URL.
    pub fn path(&self, path: &str) -> String {
        let (_, rest) = self.text.split_once(path).unwrap_or_else(|| panic!("no {path} in {}", self.text));
        let is_secret = |c: &char| c.is_ascii_alphanumeric() || "-_".contains(*c);
        let secret: String = rest.chars().take_while(is_secret).collect();
        format!("{path}{secret}")
    }

    /// The token in the link.
    pub fn token(&self) -> String {
        self.link()["/c/".len() + 22..].to_owned()
    }

    /// The stop link, without the server's base URL.
    pub fn stop_link(&self) -> String {
        self.path("/stop/")
    }

    /// Whether text and HTML show the homeserver and the localpart of an account apart.
    pub fn names(&self, id: &str) -> bool {
        let (localpart, homeserver) = parts(id);
        let is_said = |part: &str| self.text.lines().any(|line| line.ends_with(&format!(": {part}")));
        let html = self.html.as_deref().is_none_or(|html| markup::names(html, id));
        html && is_said(localpart) && is_said(homeserver)
    }
}

/// The localpart and the homeserver of a Matrix ID.
pub fn parts(id: &str) -> (&str, &str) {
    id.strip_prefix('@').and_then(|rest| rest.split_once(':')).expect("a Matrix ID")
}

/// The terms that a test server has unless a test changes them.
pub fn terms(version: &str) -> Document {
    let text = |language: &str| Text {
        name: format!("Terms ({language})"),
        url: format!("https://id.test/terms/{version}/{language}"),
    };
    let languages = ["en", "de"].map(|language| (language.to_owned(), text(language)));
    Document { version: version.to_owned(), languages: languages.into() }
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_for(Homeserver::start(), change)
    }

    /// Starts one beside a homeserver that a test has prepared.
    pub fn start_for(homeserver: Homeserver, change: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(TempDir::new().expect("a directory"));
        Self::start_beside(homeserver, dir, TestClock::new(), TICK, change)
    }

    /// Starts one whose tasks do nothing after the start, for what they would otherwise delete.
    pub fn start_without_tasks() -> Self {
        let dir = Arc::new(TempDir::new().expect("a directory"));
        let never = Duration::from_secs(24 * 3600);
        Self::start_beside(Homeserver::start(), dir, TestClock::new(), never, |_| {})
    }

    /// Stops this server and starts another one on the same data.
    pub fn restart(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.end();
        let placeholder = Homeserver::placeholder();
        let homeserver = std::mem::replace(&mut self.homeserver, placeholder);
        let (dir, clock, config) = (self._dir.clone(), self.clock.clone(), self.config.clone());
        drop(self);
        Self::start_beside(homeserver, dir, clock, TICK, |new| {
            let fresh = new.homeservers.clone();
            *new = config;
            new.homeservers = fresh;
            change(new);
        })
    }

    fn start_beside(
        homeserver: Homeserver,
        dir: Arc<TempDir>,
        clock: Arc<TestClock>,
        tick: Duration,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config {
            server_name: "id.test".to_owned(),
            public_base_url: "https://id.test".to_owned(),
            data_dir: dir.path().join("data"),
            ..Config::default()
        };
        config.http.listen = vec!["127.0.0.1:0".to_owned()];
        config.http.metrics_listen = vec!["127.0.0.1:0".to_owned()];
        config.http.workers = 1;
        config.homeservers.extra_ca_file = Some(homeserver.ca_file());
        config.homeservers.allowed_special_addresses = vec!["127.0.0.0/8".parse().expect("a network")];
        config.homeservers.timeout_seconds = at_least_one(5);
        config.store.cache_mib = 8;
        // Their mails would come in between those that a test waits for.
        config.privacy.notify_owners = false;
        config.terms.insert("terms".to_owned(), terms("1"));
        change(&mut config);
        config.check().expect("a good configuration");
        let environment = Environment {
            clock: clock.clone(),
            dns: homeserver.dns().map(Arc::new),
            ports: homeserver.ports(),
            tick,
            // Some tests put log files there first.
            allows_new_database: true,
            sockets: PassedSockets::default(),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (built, started) = std::sync::mpsc::channel();
        // The server has runtimes of its own, so it is built on a thread outside the test's.
        let thread = std::thread::spawn({
            let config = config.clone();
            move || {
                let application = Application::build(config, environment)?;
                let addresses = (application.addresses(), application.metrics_addresses()[0]);
                built.send(addresses).expect("the test waits");
                application.run_until(async { drop(stopped.await) })
            }
        });
        let Ok((addresses, metrics)) = started.recv() else {
            let ended = thread.join().expect("the server does not panic");
            panic!("the server did not start: {:#}", ended.expect_err("an error"));
        };
        Self {
            base: format!("http://{}", addresses[0]),
            addresses,
            metrics: format!("http://{metrics}/metrics"),
            clock,
            homeserver,
            config,
            client: client(),
            stop: Some(stop),
            thread: Some(thread),
            may_leave_jobs: false,
            _dir: dir,
        }
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic").expect("the server ends well");
        }
    }

    /// Sends a request; a body is JSON, the token goes into the header. An answer of the API is
    /// checked against the specification.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Reply {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        self.send(request).await
    }

    /// A request to be built further; finish it with [`Server::send`].
    pub fn build(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let request = request.build().expect("a request");
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = self.client.execute(request).await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let reply = Reply { status, headers, text: response.text().await.expect("a body") };
        if path.starts_with("/_matrix/identity") {
            assert_ne!(status, 500, "no input makes a 500: {}", reply.text);
            assert_eq!(reply.headers["access-control-allow-origin"], "*", "CORS is on every answer");
            openapi::check(&method, &path, &reply);
        }
        reply
    }

    pub async fn get(&self, path: &str, user: &User) -> Reply {
        self.request(Method::GET, &v2(path), Some(&user.token), None).await
    }

    pub async fn post(&self, path: &str, user: &User, body: &Value) -> Reply {
        self.request(Method::POST, &v2(path), Some(&user.token), Some(body)).await
    }

    /// Registers `@name:<homeserver>` without accepting anything.
    pub async fn register(&self, name: &str) -> User {
        let id = format!("@{name}:{}", self.homeserver.name());
        let openid_token = self.homeserver.openid_token(&id);
        let reply = self.register_with(self.homeserver.name(), &openid_token).await.ok();
        User { id, token: reply["token"].as_str().expect("a token").to_owned() }
    }

    /// Asks to register with an OpenID token of `server_name`, whatever comes of it.
    pub async fn register_with(&self, server_name: &str, openid_token: &str) -> Reply {
        let body = json!({
            "access_token": openid_token,
            "token_type": "Bearer",
            "matrix_server_name": server_name,
            "expires_in": 3600,
        });
        self.request(Method::POST, &v2("/account/register"), None, Some(&body)).await
    }

    /// Registers and accepts the terms.
    pub async fn user(&self, name: &str) -> User {
        let user = self.register(name).await;
        accept_terms(&self.base, &user.token).await;
        user
    }

    /// Every mail so far, the oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        let Ok(entries) = fs::read_dir(self.config.mail_directory()) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
        paths.sort();
        paths.into_iter().map(|path| Mail::parse(fs::read(path).expect("a mail"))).collect()
    }

    /// The latest mail that asks somebody to confirm. Others are sent by themselves and come in
    /// between.
    pub fn question(&self) -> Mail {
        let asks = |mail: &Mail| mail.text.contains("/c/");
        self.mails().into_iter().rev().find(asks).expect("a mail that asks")
    }

    /// Asks for a token; gives the session ID.
    pub async fn request_token(&self, user: &User, address: &str, secret: &str, attempt: u64) -> String {
        let body = json!({ "email": address, "client_secret": secret, "send_attempt": attempt });
        let reply = self.post("/validate/email/requestToken", user, &body).await.ok();
        reply["sid"].as_str().expect("a sid").to_owned()
    }

    /// Asks for a token and submits the one of the latest mail; gives the session ID.
    pub async fn validate(&self, user: &User, address: &str, secret: &str) -> String {
        let sid = self.request_token(user, address, secret, 1).await;
        let token = self.question().token();
        let body = json!({ "sid": sid, "client_secret": secret, "token": token });
        self.post("/validate/email/submitToken", user, &body).await.ok();
        sid
    }

    /// Validates and publishes an address.
    pub async fn bind(&self, user: &User, address: &str, secret: &str) -> Value {
        let sid = self.validate(user, address, secret).await;
        let body = json!({ "sid": sid, "client_secret": secret, "mxid": user.id });
        self.post("/3pid/bind", user, &body).await.ok()
    }

    /// The Matrix ID that an address leads to.
    pub async fn find(&self, user: &User, address: &str) -> Option<String> {
        let details = self.get("/hash_details", user).await.ok();
        let pepper = details["lookup_pepper"].as_str().expect("a pepper");
        let hash = hash(address, "email", pepper);
        let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [hash] });
        let reply = self.post("/lookup", user, &body).await.ok();
        reply["mappings"][&hash].as_str().map(str::to_owned)
    }
}

/// A client that follows no redirect.
pub fn client() -> Client {
    // Only the first call installs it; what the others hear is that it is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

/// A setting that cannot be zero.
pub fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

/// Accepts everything that has to be, at the server with this URL.
pub async fn accept_terms(base: &str, token: &str) {
    let url = format!("{base}{}", v2("/terms"));
    let terms = client().get(&url).send().await.expect("an answer").bytes().await.expect("a body");
    let terms: Value = serde_json::from_slice(&terms).expect("JSON");
    let policies = terms["policies"].as_object().expect("policies").values();
    let body = json!({ "user_accepts": policies.map(|policy| &policy["en"]["url"]).collect::<Vec<_>>() });
    let accepted = client().post(url).bearer_auth(token).body(body.to_string()).send().await;
    assert_eq!(accepted.expect("an answer").status(), 200);
}

/// A path of version 2 of the API.
pub fn v2(path: &str) -> String {
    format!("/_matrix/identity/v2{path}")
}

/// The lookup hash, computed here once more, by the words of the specification.
pub fn hash(address: &str, medium: &str, pepper: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{address} {medium} {pepper}")))
}

/// A runtime that outlives single tests, for the doubles.
pub fn doubles() -> &'static tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    RUNTIME.get_or_init(|| build().expect("a runtime")).handle()
}
