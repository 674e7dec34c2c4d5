//! SIGHUP reloads the configuration: what it applies, what it names, and what it refuses.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    supervision::{Place, Run, answers},
    support::{accept_terms, client, homeserver::Homeserver, v2},
};

/// A server whose configuration the test changes.
struct Reloaded {
    place: Place,
    run: Run,
    base: String,
    text: String,
}

impl Reloaded {
    fn start() -> Self {
        Self::with("")
    }

    /// Starts with these lines besides.
    fn with(lines: &str) -> Self {
        let place = Place::new();
        let text = fs::read_to_string(&place.config).expect("a file");
        fs::write(&place.config, format!("{text}{lines}")).expect("written");
        let mut run = Run::start(place.command());
        let base = run.base();
        place.hear("READY=1");
        Self { place, run, base, text }
    }

    /// Reloads with these lines in place of those before; gives the log until it has.
    fn reload(&mut self, lines: &str, expected: &str) -> String {
        fs::write(&self.place.config, format!("{}{lines}", self.text)).expect("written");
        self.run.signal(Signal::HUP);
        let heard = self.place.hear("RELOADING=1");
        let time = heard.last().and_then(|message| message.split_once("MONOTONIC_USEC="));
        assert!(time.is_some_and(|(_, time)| time.trim().parse::<u64>().is_ok()), "{heard:?}");
        self.place.hear("READY=1");
        let before = self.run.log.len();
        self.run.line(expected);
        self.run.log[before..].to_owned()
    }
}

const IS_RELOADED: &str = "the configuration is reloaded";
const IS_NOT_RELOADED: &str = "the configuration is not reloaded; the previous one stays in force";

/// Posts to a path of the v1 API, which counts by the caller's address; gives the status.
fn sign(base: &str) -> u16 {
    let server: SocketAddr = base.trim_start_matches("http://").parse().expect("an address");
    let mut stream = TcpStream::connect(server).expect("it listens");
    let path = "/_matrix/identity/api/v1/sign-ed25519?mxid=@a:b.c&token=t&private_key=k";
    let request = format!("POST {path} HTTP/1.1\r\nhost: id.test\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[9..]).parse().expect("a status")
}

#[test]
fn limits_are_reloaded_and_what_was_taken_stays_taken() {
    let rate = |burst: u32| format!("limits.sign_per_ip = {{ burst = {burst}, per_hour = 1 }}\n");
    let mut server = Reloaded::with(&rate(2));
    assert_ne!(sign(&server.base), 429);
    assert_ne!(sign(&server.base), 429);
    assert_eq!(sign(&server.base), 429);
    let log = server.reload(&rate(3), IS_RELOADED);
    assert!(log.contains("changed=\"limits.sign_per_ip.burst\""), "{log}");
    assert_ne!(sign(&server.base), 429, "one more than before");
    assert_eq!(sign(&server.base), 429);
    server.run.stop();
}

#[tokio::test]
async fn a_key_that_cannot_be_reloaded_is_named_and_stays_as_it_was() {
    let mut server = Reloaded::start();
    let log = server.reload("http.workers = 1\nmail.smtp.host = 'mail.example.org'\n", IS_RELOADED);
    // The number of workers comes from the environment, which is over the file.
    assert!(!log.contains("http.workers"), "{log}");
    assert!(
        log.contains("mail.smtp.host needs a restart; until then, its previous value stays in force"),
        "{log}"
    );
    let log = server.reload("http.trusted_proxies = []\nmail.smtp.host = 'mail.example.org'\n", IS_RELOADED);
    for key in ["http.trusted_proxies", "mail.smtp.host"] {
        assert!(log.contains(&format!("{key} needs a restart")), "{log}");
    }
    let log = server.reload("", IS_RELOADED);
    assert!(!log.contains("needs a restart"), "the file is as it was: {log}");
    assert!(answers(&server.base).await);
    server.run.stop();
}

#[tokio::test]
async fn a_configuration_with_mistakes_changes_nothing_and_says_what_is_wrong() {
    let mut server = Reloaded::with("operator.contact = 'old@example.org'\n");
    let templates = server.place.path().join("templates");
    fs::create_dir_all(templates.join("bindery/sms")).expect("a directory");
    fs::write(templates.join("bindery/sms/en.txt"), "{{ nonsense }}").expect("written");
    let templates = format!("mail.templates_dir = '{}'\n", templates.display());
    let security_txt = format!("{}/.well-known/security.txt", server.base);
    let cases = [
        ("operator.contact = 'new@example.org'\nlimits.sign_per_ip = 5\n", "limits.sign_per_ip"),
        ("operator.contact = 'new@example.org'\nlimitz = {}\n", "did you mean 'limits'?"),
        ("operator.contact = 'new@example.org\n", "line "),
        ("operator.contact = 'new@example.org'\nlog.level = 'loud'\n", "log.level: 'loud' is not a level"),
        ("operator.contact = 'new@example.org'\nmail.from = 'nobody'\n", "mail.from"),
        (&format!("operator.contact = 'new@example.org'\n{templates}"), "sms/en.txt is wrong"),
        (
            "operator.contact = 'new@example.org'\nhttp.tls = { certificate_file = '/nowhere', key_file = '/nowhere' }\n",
            "http.tls.certificate_file",
        ),
    ];
    for (lines, words) in cases {
        let log = server.reload(lines, IS_NOT_RELOADED);
        assert!(log.contains("ERROR") && log.contains(words), "{lines}{log}");
        let answer =
            client().get(&security_txt).send().await.expect("an answer").text().await.expect("a text");
        assert!(answer.contains("mailto:old@example.org"), "{lines}{answer}");
    }
    fs::remove_file(&server.place.config).expect("removed");
    server.run.signal(Signal::HUP);
    server.run.line("the configuration file: cannot use");
    server.reload("operator.contact = 'new@example.org'\n", IS_RELOADED);
    let answer = client().get(&security_txt).send().await.expect("an answer").text().await.expect("a text");
    assert!(answer.contains("mailto:new@example.org"), "{answer}");
    server.run.stop();
}

#[test]
fn the_log_level_is_reloaded() {
    let mut server = Reloaded::start();
    server.reload("log.level = 'warn'\nmail.smtp.host = 'mail.example.org'\n", "needs a restart");
    server.reload("log.level = 'info'\n", IS_RELOADED);
    let told = server.run.log.matches(IS_RELOADED).count();
    assert_eq!(told, 1, "the first reload is told at a level that was off by then: {}", server.run.log);
    server.run.stop();
}

/// Registers with an account of the homeserver double; gives the token.
async fn register(base: &str, homeserver: &Homeserver) -> String {
    let body = json!({
        "access_token": homeserver.openid_token(&format!("@alice:{}", homeserver.name())),
        "token_type": "Bearer", "matrix_server_name": homeserver.name(), "expires_in": 3600,
    });
    let request = client().request(Method::POST, format!("{base}{}", v2("/account/register")));
    let reply = request.body(body.to_string()).send().await.expect("an answer");
    let reply: Value = serde_json::from_str(&reply.text().await.expect("a body")).expect("JSON");
    reply["token"].as_str().expect("a token").to_owned()
}

async fn account_status(base: &str, token: &str) -> u16 {
    let url = format!("{base}{}", v2("/hash_details"));
    client().get(url).bearer_auth(token).send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn another_processor_is_in_the_notice_and_people_accept_again() {
    let processor = |name: &str| {
        format!("{{ name = '{name}', purpose = 'hosts this server', url = 'https://hosting.example/' }}")
    };
    let one = format!("operator.processors = [{}]\n", processor("Old Hosting"));
    let mut server = Reloaded::with(&one);
    let token = register(&server.base, &server.place.homeserver).await;
    assert_eq!(account_status(&server.base, &token).await, 403);
    accept_terms(&server.base, &token).await;
    assert_eq!(account_status(&server.base, &token).await, 200);
    let two = format!("operator.processors = [{}, {}]\n", processor("Old Hosting"), processor("New Hosting"));
    server.reload(&two, IS_RELOADED);
    assert_eq!(account_status(&server.base, &token).await, 403, "a cached consent does not count");
    let notice = client().get(format!("{}/privacy/en", server.base)).send().await.expect("an answer");
    assert!(notice.text().await.expect("a text").contains("New Hosting"));
    accept_terms(&server.base, &token).await;
    assert_eq!(account_status(&server.base, &token).await, 200);
    server.run.stop();
}

#[tokio::test]
async fn templates_are_read_again() {
    let mut server = Reloaded::start();
    let dir = server.place.path().join("templates");
    let template = dir.join("bindery/mail/en/validate.txt");
    fs::create_dir_all(template.parent().expect("a folder")).expect("a directory");
    let lines = format!("mail.templates_dir = '{}'\noperator.name = 'Example'\n", dir.display());
    let log = server.reload(&lines, IS_RELOADED);
    assert!(log.contains("mail.templates_dir, operator.name"), "{log}");
    fs::write(&template, "{{ nonsense").expect("written");
    let log = server.reload(&lines, IS_NOT_RELOADED);
    assert!(log.contains("en/validate.txt"), "{log}");
    server.run.stop();
}

/// The sources that make what a reload replaces, from the configuration that they are given.
const READERS: &[&str] = &[
    "src/config/",
    "src/remote/letterhead.rs",
    "src/remote/mail_headers.rs",
    "src/remote/sms.rs",
    "src/ops/mod.rs",
    "src/ops/limits/mod.rs",
    "src/app/reload.rs",
    "src/cli/demo/",
];

#[test]
fn what_a_reload_replaces_is_read_nowhere_else_in_the_configuration_of_the_start() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).expect("inside").display().to_string();
            if READERS.iter().any(|reader| name.starts_with(reader)) {
                continue;
            }
            let source = fs::read_to_string(&path).expect("a source");
            for key in bindery::config::RELOADABLE {
                assert!(!source.contains(&format!("config.{key}")), "{name} reads {key}; see Core::in_force");
            }
        }
    }
}
