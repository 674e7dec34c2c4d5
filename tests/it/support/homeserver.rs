//! A homeserver double: real HTTPS on loopback under a private authority, whose answers a test
//! can change, with a DNS double beside it when names matter.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bindery::{
    domain::{secret::Key32, signing::KeyPair},
    remote::{discovery::Ports, dns::Dns},
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::{doubles, tls::Authority};

/// What the double answers to a path.
#[derive(Clone)]
pub enum Answer {
    /// A status and a JSON body.
    Json(u16, Value),
    /// A status, a header and a body.
    Raw(u16, &'static str, String, Vec<u8>),
    /// Nothing, ever.
    Silence,
    /// A body that goes on for so many bytes.
    Huge(usize),
}

/// What was asked: the `Host` header and the path with its query.
pub type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// A request that had a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub method: String,
    pub path: String,
    /// The whole head.
    pub head: String,
    /// The body; a text if it is no JSON.
    pub body: Value,
}

/// The running double.
pub struct Homeserver {
    pub authority: Arc<Authority>,
    pub asked: Asked,
    told: watch::Sender<Vec<Told>>,
    connections: Arc<AtomicUsize>,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    name: String,
    key: KeyPair,
    dns: Option<Box<dyn Fn() -> Dns + Send>>,
    ports: Ports,
}

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The time until which the double's keys are valid unless a test says otherwise.
pub const VALID_UNTIL: u64 = 1_800_000_000_000 + 3 * 24 * 3_600_000;

impl Homeserver {
    /// Starts one under the name `127.0.0.1:<port>`.
    pub fn start() -> Self {
        Self::start_for(&["127.0.0.1", "localhost"], |address| address.to_string())
    }

    /// Starts one with a certificate for `names`, and the server name that `name` makes of its
    /// address.
    pub fn start_for(names: &[&str], name: impl FnOnce(SocketAddr) -> String) -> Self {
        let authority = Arc::new(Authority::new());
        Self::start_under(authority, names, name)
    }

    /// As [`Homeserver::start_for`], under an authority that exists.
    pub fn start_under(
        authority: Arc<Authority>,
        names: &[&str],
        name: impl FnOnce(SocketAddr) -> String,
    ) -> Self {
        Self::start_at(authority, (Ipv4Addr::LOCALHOST, 0).into(), names, name)
    }

    /// As [`Homeserver::start_under`], at an address of [`unused_address`].
    pub fn start_at(
        authority: Arc<Authority>,
        address: SocketAddr,
        names: &[&str],
        name: impl FnOnce(SocketAddr) -> String,
    ) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("a free port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let answers: Arc<Mutex<BTreeMap<String, Answer>>> = Arc::default();
        let asked = Asked::default();
        let told: watch::Sender<Vec<Told>> = watch::Sender::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let acceptor = TlsAcceptor::from(authority.server(names));
        let (answers_there, asked_there, told_there) = (answers.clone(), asked.clone(), told.clone());
        let connections_there = connections.clone();
        doubles().spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                connections_there.fetch_add(1, Ordering::SeqCst);
                let (acceptor, answers, asked) =
                    (acceptor.clone(), answers_there.clone(), asked_there.clone());
                let told = told_there.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = answer(stream, &answers, &asked, &told).await;
                    }
                });
            }
        });
        let key = KeyPair::new("ed25519:hs", &Key32::new([7; 32]));
        let double = Self {
            authority,
            asked,
            told,
            connections,
            answers,
            name: name(address),
            key,
            dns: None,
            ports: Ports::default(),
        };
        double.answer("/_matrix/key/v2/server", Answer::Json(200, Value::Object(double.keys(VALID_UNTIL))));
        double
    }

    /// Something to leave in the place of one that moved.
    pub fn placeholder() -> Self {
        Self::start()
    }

    /// Its server name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn ca_file(&self) -> PathBuf {
        self.authority.file()
    }

    /// Makes the server under test ask this name server, and use these ports.
    pub fn behind_dns(self, dns: SocketAddr, ports: Ports) -> Self {
        self.behind(move || Dns::asking(dns).expect("a resolver"), ports)
    }

    /// Makes the server under test resolve names with this, and use these ports.
    pub fn behind(mut self, dns: impl Fn() -> Dns + Send + 'static, ports: Ports) -> Self {
        self.dns = Some(Box::new(dns));
        self.ports = ports;
        self
    }

    pub fn dns(&self) -> Option<Dns> {
        let _entered = doubles().enter();
        self.dns.as_ref().map(|dns| dns())
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// How often anybody connected, even if no request came of it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How often a path (without its query) was asked for.
    pub fn times_asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().filter(|(_, target)| target.split('?').next() == Some(path)).count()
    }

    /// Every request with a body so far, the oldest first.
    pub fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }

    /// Waits until it has been told so many things; gives them all.
    pub async fn until_told(&self, count: usize) -> Vec<Told> {
        let mut told = self.told.subscribe();
        let enough = tokio::time::timeout(PATIENCE, told.wait_for(|told| told.len() >= count)).await;
        enough.expect("it is told in time").expect("it is there").clone()
    }

    /// Sets what a path (without its query) answers, to one method if the method comes before it; an
    /// OpenID token is part of the path.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().expect("not poisoned").insert(path.to_owned(), answer);
    }

    /// Makes an OpenID token that `user_id` owns.
    pub fn openid_token(&self, user_id: &str) -> String {
        let token = format!(
            "openid-{}",
            user_id.trim_start_matches('@').replace([':', '.', '[', ']', '/', '"', '\\'], "-")
        );
        self.answer(&user_info_path(&token), Answer::Json(200, json!({ "sub": user_id })));
        token
    }

    /// The key document, signed.
    pub fn keys(&self, valid_until: u64) -> Map<String, Value> {
        key_document(&self.name, &self.key, valid_until)
    }

    /// An `Authorization` header for a POST of `content` to `uri`, naming the destination in the
    /// signed member `member`.
    pub fn sign_request(&self, uri: &str, member: &str, destination: &str, content: &Value) -> String {
        authorization(&self.name, &self.key, uri, member, destination, content)
    }
}

/// The key document of a server, signed.
pub fn key_document(name: &str, key: &KeyPair, valid_until: u64) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("server_name".to_owned(), json!(name));
    document.insert("valid_until_ts".to_owned(), json!(valid_until));
    document.insert("verify_keys".to_owned(), json!({ key.id(): { "key": key.public().to_base64() } }));
    document.insert("old_verify_keys".to_owned(), json!({}));
    key.sign_json(name, &mut document).expect("a canonical document");
    document
}

/// As [`Homeserver::sign_request`], in the name of any server and with any key.
pub fn authorization(
    origin: &str,
    key: &KeyPair,
    uri: &str,
    member: &str,
    destination: &str,
    content: &Value,
) -> String {
    let mut object = Map::new();
    object.insert("method".to_owned(), json!("POST"));
    object.insert("uri".to_owned(), json!(uri));
    object.insert("origin".to_owned(), json!(origin));
    object.insert(member.to_owned(), json!(destination));
    object.insert("content".to_owned(), content.clone());
    key.sign_json(origin, &mut object).expect("a canonical request");
    let id = key.id();
    let signature = object["signatures"][origin][id].as_str().expect("a signature");
    format!("X-Matrix origin=\"{origin}\",key=\"{id}\",sig=\"{signature}\",destination=\"{destination}\"")
}

/// A loopback address at which nothing listens yet, on no port: all of 127.0.0.0/8 is loopback, so
/// each process takes a part of its own and each call an address in it.
pub fn unused_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(2);
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    assert!(number < 0xfff, "the process has used up its addresses");
    Ipv4Addr::from(0x7f00_0000 | (std::process::id() & 0xfff) << 12 | number)
}

/// The path that stands for a token in [`Homeserver::answer`].
pub fn user_info_path(token: &str) -> String {
    format!("/_matrix/federation/v1/openid/userinfo?access_token={token}")
}

pub(super) async fn answer<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut stream: S,
    answers: &Mutex<BTreeMap<String, Answer>>,
    asked: &Asked,
    told: &watch::Sender<Vec<Told>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let host = head.lines().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
    asked.lock().expect("not poisoned").push((host.unwrap_or_default(), target.clone()));
    let path = target.split('?').next().unwrap_or_default();
    let method = head.split(' ').next().unwrap_or_default();
    let found = {
        let answers = answers.lock().expect("not poisoned");
        let by_method = answers.get(&format!("{method} {path}"));
        by_method.or_else(|| answers.get(&target)).or_else(|| answers.get(path)).cloned()
    };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    if let Some(length) = length.filter(|length| *length > 0) {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let text = || json!(String::from_utf8_lossy(&body));
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
        let (method, path, head) = (method.to_owned(), path.to_owned(), head.clone());
        told.send_modify(|told| told.push(Told { method, path, head, body }));
    }
    let unknown = || match path {
        "/_matrix/federation/v1/openid/userinfo" => Answer::Json(
            401,
            json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "Access token unknown or expired" }),
        ),
        _ => Answer::Json(404, json!({ "errcode": "M_UNRECOGNIZED", "error": "?" })),
    };
    match found.unwrap_or_else(unknown) {
        Answer::Json(status, body) => {
            respond(&mut stream, status, "x-double: yes", body.to_string().as_bytes()).await?
        }
        Answer::Raw(status, name, value, body) => {
            respond(&mut stream, status, &format!("{name}: {value}"), &body).await?;
        }
        Answer::Silence => std::future::pending().await,
        Answer::Huge(length) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let chunk = vec![b' '; 4096];
            for _ in 0..length / chunk.len() {
                stream.write_all(&chunk).await?;
            }
        }
    }
    stream.shutdown().await
}

async fn respond(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    status: u16,
    header: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{header}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}
