//! Messages to phones: the request to the gateway, what counts as success, and the errors for a wrong
//! configuration. The recipes are those of `docs/sms.md`.

use std::{net::Ipv6Addr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bindery::{
    config::{Config, Password, SmsFormat, SmsTransport},
    domain::{
        ids::{Token, UserId},
        language::Language,
        network::Network,
        phone::PhoneNumber,
    },
    remote::{
        dns::Dns,
        sms::{SmsError, SmsGateway, ValidationSms},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use crate::support::{at_least_one, gateway::Gateway, homeserver::Answer, words};

const CODE: &str = "012345";

/// The whole message.
fn message() -> String {
    words::message("en").replace("{{ code }}", CODE).replace("{{ server_name }}", "id.test")
}

fn config() -> Config {
    Config {
        server_name: "id.test".to_owned(),
        public_base_url: "https://id.test".to_owned(),
        ..Config::default()
    }
}

fn number(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text, "GB").expect("a number")
}

async fn send(config: &Config, to: &str) -> bool {
    try_to_send(config, to).await.is_ok()
}

async fn try_to_send(config: &Config, to: &str) -> Result<(), SmsError> {
    send_for(
        &SmsGateway::new(config, Arc::new(Dns::system())).expect("a gateway"),
        to,
        "@alice:hs.test",
        "192.0.2.1",
    )
    .await
}

/// Sends a code for this account, from this address.
async fn send_for(gateway: &SmsGateway, to: &str, account: &str, from: &str) -> Result<(), SmsError> {
    let (to, code) = (number(to), Token::parse(CODE).expect("a code"));
    let account = UserId::parse(account).expect("a user ID");
    let network = Network::of(from.parse().expect("an address"));
    let sms =
        ValidationSms { to: &to, code: &code, language: Language::En, account: Some(&account), network };
    gateway.send_code(&sms).await
}

/// The blocks of `docs/sms.md` under a heading that set up a gateway.
fn recipe(heading: &str) -> Config {
    let text = include_str!("../../docs/sms.md");
    let (_, part) = text.split_once(&format!("## {heading}\n")).expect("the heading");
    let (_, block) = part.split_once("```toml\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let sms: Config = toml::from_str(block).expect("a configuration");
    let config = Config { sms: sms.sms, ..config() };
    config.check().expect("a good configuration");
    config
}

/// A recipe with the test gateway in its URL; returns the host and path of the original URL.
fn divert(config: &mut Config, gateway: &Gateway, dir: &TempDir) -> (String, String) {
    let file = dir.path().join("password");
    std::fs::write(&file, "pass word\nnot this\n").expect("written");
    config.sms.http.password_file = Some(file);
    let url = std::mem::take(&mut config.sms.http.url);
    let (host, path) = url.strip_prefix("https://").expect("https").split_once('/').expect("a path");
    config.sms.http.url = format!("{}/{path}", gateway.base);
    (host.to_owned(), format!("/{path}"))
}

struct Recipe {
    heading: &'static str,
    host: &'static str,
    to: &'static str,
    /// The headers of every request except the media type.
    headers: Vec<String>,
    body: Value,
    taken: (u16, Value),
    refused: Vec<(u16, Value)>,
}

fn basic(username: &str) -> String {
    format!("authorization: basic {}", STANDARD.encode(format!("{username}:pass word")))
}

fn recipes() -> Vec<Recipe> {
    let infobip = |group: &str| json!({ "messages": [{ "status": { "groupName": group, "id": 26 } }] });
    vec![
        Recipe {
            heading: "Twilio",
            host: "api.twilio.com",
            to: "+447400123456",
            headers: vec![
                "content-type: application/x-www-form-urlencoded".to_owned(),
                basic("AC00000000000000000000000000000000"),
            ],
            body: json!(format!(
                "{}&From=%2B447700900000&To=%2B447400123456",
                serde_urlencoded::to_string([("Body", message())]).expect("a form")
            )),
            taken: (201, json!({ "sid": "SM0", "status": "queued", "error_code": null })),
            refused: vec![
                (400, json!({ "code": 21211 })),
                (401, json!({})),
                (429, json!({})),
                (200, json!({})),
            ],
        },
        Recipe {
            heading: "OpenMarket",
            host: "smsc.openmarket.com",
            to: "+12015550123",
            headers: vec!["x-request-id: bindery".to_owned(), basic("000-000-000-00000")],
            body: json!({ "mobileTerminate": {
                "source": { "ton": 5, "address": "Example US" },
                "destination": { "address": "12015550123" },
                "message": { "type": "text", "content": message() },
            } }),
            taken: (202, json!({})),
            refused: vec![(400, json!({ "error": { "code": "12" } })), (500, json!({})), (200, json!({}))],
        },
        Recipe {
            heading: "Infobip",
            host: "xxxxx.api.infobip.com",
            to: "+4915123456789",
            headers: vec!["accept: application/json".to_owned(), "authorization: app pass word".to_owned()],
            body: json!({ "messages": [{
                "sender": "Example",
                "destinations": [{ "to": "4915123456789" }],
                "content": { "text": message() },
            }] }),
            taken: (200, infobip("PENDING")),
            refused: vec![
                (200, infobip("REJECTED")),
                (200, infobip("UNDELIVERABLE")),
                (200, json!({})),
                (200, json!({ "messages": [] })),
                (401, json!({ "requestError": {} })),
                (503, infobip("PENDING")),
            ],
        },
    ]
}

#[tokio::test]
async fn the_recipes_send_what_the_gateways_want() {
    for Recipe { heading, host, to, headers, body, taken, refused } in recipes() {
        let (gateway, dir, mut config) =
            (Gateway::start(), TempDir::new().expect("a directory"), recipe(heading));
        let (named, path) = divert(&mut config, &gateway, &dir);
        assert_eq!(named, host);
        gateway.answer(&path, Answer::Json(taken.0, taken.1));
        assert!(send(&config, to).await, "{heading}");
        let told = gateway.told().remove(0);
        assert_eq!((told.method.as_str(), &told.path, &told.body), ("POST", &path, &body), "{heading}");
        let head = told.head.to_lowercase();
        for header in &headers {
            assert!(head.contains(&header.to_lowercase()), "{heading}: {header} is not in {head}");
        }
        for (status, answer) in refused {
            gateway.answer(&path, Answer::Json(status, answer.clone()));
            assert!(!send(&config, to).await, "{heading}: {status} {answer}");
        }
    }
}

#[tokio::test]
async fn whatever_is_no_success_is_a_failure() {
    let gateway = Gateway::start();
    let mut config = config();
    gateway.configure(&mut config);
    config.sms.http.timeout_seconds = at_least_one(1);
    assert!(send(&config, "+447400123456").await);
    for answer in [
        Answer::Json(500, json!({})),
        Answer::Json(404, json!({})),
        Answer::Raw(302, "location", format!("{}/elsewhere", gateway.base), Vec::new()),
        Answer::Huge(1 << 20),
        Answer::Silence,
    ] {
        gateway.answer("/send", answer);
        assert!(!send(&config, "+447400123456").await);
    }
    config.sms.http.success_pointer = Some("/status".to_owned());
    config.sms.http.success_values = vec!["ok".to_owned(), "0".to_owned()];
    for (answer, is_success) in [
        (json!({ "status": "ok" }), true),
        (json!({ "status": 0 }), true),
        (json!({ "status": "bad" }), false),
        (json!({ "status": ["ok"] }), false),
        (json!("ok"), false),
    ] {
        gateway.answer("/send", Answer::Json(200, answer.clone()));
        assert_eq!(send(&config, "+447400123456").await, is_success, "{answer}");
    }
    gateway.answer("/send", Answer::Raw(200, "x-a", "b".to_owned(), b"<ok/>".to_vec()));
    assert!(!send(&config, "+447400123456").await);
    config.sms.http.url = "http://127.0.0.1:1/send".to_owned();
    assert!(!send(&config, "+447400123456").await, "nobody listens there");
}

#[tokio::test]
async fn a_refused_number_is_told_from_a_gateway_that_accepts_nothing() {
    let gateway = Gateway::start();
    let mut config = config();
    gateway.configure(&mut config);
    config.sms.http.timeout_seconds = at_least_one(1);
    config.sms.http.success_pointer = Some("/status".to_owned());
    config.sms.http.success_values = vec!["ok".to_owned()];
    let statuses = |statuses: &[u16], error| {
        statuses.iter().map(|status| (Answer::Json(*status, json!({})), error)).collect::<Vec<_>>()
    };
    let cases = [
        // A bad number, a country that is off, a number that got too many messages; a body that says no.
        statuses(&[400, 403, 422, 429, 200], SmsError::Refused),
        // The account at the gateway, its credit, the URL, and the gateway itself.
        statuses(&[401, 402, 404, 301, 500, 503], SmsError::GatewayUnavailable),
        vec![(Answer::Silence, SmsError::GatewayUnavailable)],
    ];
    for (answer, expected) in cases.into_iter().flatten() {
        gateway.answer("/send", answer);
        assert_eq!(try_to_send(&config, "+447400123456").await, Err(expected));
    }
    config.sms.http.url = "http://127.0.0.1:1/send".to_owned();
    assert_eq!(try_to_send(&config, "+447400123456").await, Err(SmsError::GatewayUnavailable));
}

#[tokio::test]
async fn a_number_that_opted_out_fails_with_the_gateway_and_not_with_the_numbers_that_a_stranger_chooses() {
    let double = Gateway::start();
    let mut config = config();
    double.configure(&mut config);
    let gateway = SmsGateway::new(&config, Arc::new(Dns::system())).expect("a gateway");
    let failed = Err(SmsError::GatewayUnavailable);
    double.answer("/send", Answer::Json(500, json!({})));
    for to in ["+447400123451", "+447400123452", "+447400123453", "+447400123454"] {
        assert_eq!(send_for(&gateway, to, "@mallory:hs.test", "192.0.2.1").await, failed);
        assert_eq!(gateway.rehearse_code().await, Ok(()), "one caller tried {to}");
    }
    assert_eq!(send_for(&gateway, "+447400123455", "@bob:hs.test", "192.0.2.2").await, failed);
    assert_eq!(gateway.rehearse_code().await, Ok(()));
    assert_eq!(send_for(&gateway, "+447400123456", "@carol:hs.test", "192.0.2.3").await, failed);
    assert_eq!(gateway.rehearse_code().await, failed, "three callers met it with three numbers");
    double.answer("/send", Answer::Json(200, json!({})));
    assert_eq!(send_for(&gateway, "+447400123457", "@dave:hs.test", "192.0.2.4").await, Ok(()));
    assert_eq!(gateway.rehearse_code().await, Ok(()));
    assert_eq!(double.told().len(), 7, "a rehearsal sends nothing");
    config.sms.http.url = "http://127.0.0.1:1/send".to_owned();
    let gone = SmsGateway::new(&config, Arc::new(Dns::system())).expect("a gateway");
    assert_eq!(gone.rehearse_code().await, failed, "nobody listens there");
}

/// Whether a message and a rehearsal get through.
async fn both(config: &Config, dns: Dns) -> [bool; 2] {
    let gateway = SmsGateway::new(config, Arc::new(dns)).expect("a gateway");
    let sent = send_for(&gateway, "+447400123456", "@alice:hs.test", "192.0.2.1").await;
    [sent.is_ok(), gateway.rehearse_code().await.is_ok()]
}

#[tokio::test]
async fn a_number_that_opted_out_fails_where_the_connection_of_a_message_does() {
    let double = Gateway::start();
    let mut config = config();
    double.configure(&mut config);
    config.sms.http.timeout_seconds = at_least_one(1);
    assert_eq!(both(&config, Dns::system()).await, [true, true]);
    config.sms.http.url = double.base.replace("http:", "https:");
    assert_eq!(both(&config, Dns::system()).await, [false, false], "there is no TLS");
    for path in ["/send", "/"] {
        double.answer(path, Answer::Silence);
    }
    config.sms.http.url = format!("{}/send", double.base);
    assert_eq!(both(&config, Dns::system()).await, [false, false], "it is silent");
    // Some web servers close the connection at an unknown path.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    config.sms.http.url = format!("http://{}/send", listener.local_addr().expect("an address"));
    let closing = async {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
        }
    };
    tokio::select! {
        () = closing => panic!("it listens"),
        [_, rehearsed] = both(&config, Dns::system()) => assert!(rehearsed),
    }
}

#[tokio::test]
async fn an_ipv6_address_that_drops_packets_makes_no_number_that_opted_out_fail() {
    let double = Gateway::start();
    let mut config = config();
    double.configure(&mut config);
    let port: u16 = double.base.rsplit_once(':').expect("a port").1.parse().expect("a port");
    // The system drops what would make a longer queue of connections.
    let hole = TcpSocket::new_v6().expect("a socket");
    hole.bind((Ipv6Addr::LOCALHOST, port).into()).expect("the port is free");
    let _hole = hole.listen(1).expect("a listener");
    let mut queue = Vec::new();
    let connect = || timeout(Duration::from_millis(200), TcpStream::connect((Ipv6Addr::LOCALHOST, port)));
    while let Ok(connection) = connect().await {
        queue.push(connection.expect("a connection"));
    }
    let dir = TempDir::new().expect("a directory");
    let (resolv_conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
    std::fs::write(&hosts, "::1 gateway.test\n127.0.0.1 gateway.test\n").expect("written");
    config.sms.http.url = format!("http://gateway.test:{port}/send");
    assert_eq!(both(&config, Dns::reading(resolv_conf, hosts)).await, [true, true]);
}

#[tokio::test]
async fn nothing_in_a_value_changes_what_is_around_it() {
    let gateway = Gateway::start();
    let mut config = config();
    gateway.configure(&mut config);
    config.sms.originator = "a\"b\\&c={text}".to_owned();
    config.sms.http.body.insert("from".to_owned(), json!({ "x": ["{originator}", 7, true] }));
    config.sms.http.body.insert("id".to_owned(), json!("<{id}>"));
    assert!(send(&config, "+447400123456").await && send(&config, "+447400123456").await);
    let told = gateway.told();
    assert_eq!(told[0].body["from"], json!({ "x": ["a\"b\\&c={text}", 7, true] }));
    assert_ne!(told[0].body["id"], told[1].body["id"]);
    config.sms.http.format = SmsFormat::Form;
    config.sms.http.body = [("to", "{to_digits}"), ("from", "{originator}"), ("code", "{code}")]
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .into();
    assert!(send(&config, "+447400123456").await);
    let form: Vec<(String, String)> =
        serde_urlencoded::from_str(gateway.told()[2].body.as_str().expect("a form")).expect("a form");
    let expected = [("code", CODE), ("from", "a\"b\\&c={text}"), ("to", "447400123456")];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn the_directory_gets_a_file_that_nobody_else_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new().expect("a directory");
    let mut config = config();
    config.data_dir = dir.path().join("data");
    config.sms.gateway = SmsTransport::Directory;
    config.sms.countries = vec!["GB".to_owned()];
    assert!(send(&config, "+447400123456").await);
    let files: Vec<_> = std::fs::read_dir(config.sms_directory()).expect("a directory").collect();
    let file = files[0].as_ref().expect("a file").path();
    assert_eq!(
        std::fs::read_to_string(&file).expect("text"),
        format!("To: +447400123456\n\n{}\n", message())
    );
    assert_eq!(std::fs::metadata(file).expect("a file").permissions().mode() & 0o777, 0o600);
}

#[test]
fn only_named_countries_are_written_to() {
    let mut config = config();
    let may = |config: &Config, text: &str| {
        SmsGateway::new(config, Arc::new(Dns::system())).expect("a gateway").may_write_to(&number(text))
    };
    config.sms.countries = vec!["*".to_owned()];
    assert!(!may(&config, "+447400123456"), "it is off");
    config.sms.gateway = SmsTransport::Directory;
    assert!(may(&config, "+447400123456") && may(&config, "+12015550123"));
    config.sms.countries = vec!["US".to_owned(), "GB".to_owned()];
    assert!(may(&config, "+447400123456") && may(&config, "+12015550123"));
    // Canada and Jersey share the calling codes of those two.
    assert!(!may(&config, "+15062345678") && !may(&config, "+447797712345") && !may(&config, "+33612345678"));
}

#[test]
fn a_gateway_that_cannot_work_is_refused_at_the_start() {
    type Change = fn(&mut Config);
    let cases: &[(Change, &str)] = &[
        (|config| config.sms.countries.clear(), "sms.countries"),
        (|config| config.sms.countries = vec!["gb".to_owned()], "sms.countries"),
        (|config| config.sms.http.url.clear(), "sms.http.url"),
        (|config| config.sms.http.url = "http://gateway.example/send".to_owned(), "https://"),
        (|config| config.sms.http.url = "http://127.0.0.1.evil.example/".to_owned(), "https://"),
        (|config| config.sms.http.url = "https://".to_owned(), "sms.http.url"),
        (|config| config.sms.http.username = Some("u".to_owned()), "password"),
        (|config| config.sms.http.password_file = Some("/nowhere".into()), "/nowhere"),
        (|config| config.sms.http.body.clear(), "{to}"),
        (|config| drop(config.sms.http.body.remove("text")), "{text}"),
        (|config| drop(config.sms.http.body.insert("x".to_owned(), json!("{tex}"))), "{tex}"),
        (|config| drop(config.sms.http.body.insert("x".to_owned(), json!("{"))), "sms.http.body"),
        (|config| config.sms.http.success_status = vec![99], "success_status"),
        (|config| config.sms.http.success_pointer = Some("/a".to_owned()), "success_values"),
        (|config| config.sms.originators = [("+44".to_owned(), "x".to_owned())].into(), "sms.originators"),
        (
            |config| config.sms.http.headers = [("a b".to_owned(), Password("x".to_owned()))].into(),
            "sms.http.headers",
        ),
        (
            |config| config.sms.http.headers = [("a".to_owned(), Password("x\ny".to_owned()))].into(),
            "sms.http.headers",
        ),
        (
            |config| config.sms.http.headers = [("a".to_owned(), Password("{password}".to_owned()))].into(),
            "{password}",
        ),
        (
            |config| {
                config.sms.http.format = SmsFormat::Form;
                config.sms.http.body.insert("x".to_owned(), json!(["{to}"]));
            },
            "sms.http.body",
        ),
    ];
    let gateway = Gateway::start();
    for (change, word) in cases {
        let mut config = config();
        gateway.configure(&mut config);
        SmsGateway::new(&config, Arc::new(Dns::system())).expect("a good gateway");
        config.check().expect("a good configuration");
        change(&mut config);
        let problem = match config.check() {
            Err(problem) => problem.to_string(),
            Ok(()) => format!(
                "{:#}",
                SmsGateway::new(&config, Arc::new(Dns::system())).err().expect("it is refused")
            ),
        };
        assert!(problem.contains(word), "{word} is not in: {problem}");
    }
}
