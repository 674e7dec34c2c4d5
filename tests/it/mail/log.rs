//! What the log of the real executable says when mail, messages and homeservers fail, and what it never
//! says: no address, number, code, token, secret, client IP or user agent, at whatever level.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use bindery::config::{Config, LogFormat, Password, SmtpSecurity};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{REQUEST, sid, wanted};
use crate::support::{
    accept_terms, at_least_one, client,
    gateway::Gateway,
    homeserver::{Answer, Homeserver},
    invited::sign_url,
    smtp::{Mood, Received, Relay, Stage, unlimited},
    v2,
};

/// The executable, serving.
struct Process {
    child: Child,
    base: String,
    log: mpsc::Receiver<String>,
    _dir: TempDir,
}

impl Process {
    fn start(relay: &Relay, homeserver: &Homeserver, change: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut config = Config {
            server_name: "id.test".to_owned(),
            public_base_url: "https://id.test".to_owned(),
            data_dir: dir.path().join("data"),
            ..Config::default()
        };
        config.http.listen = vec!["127.0.0.1:0".to_owned()];
        config.http.workers = 1;
        config.homeservers.extra_ca_file = Some(homeserver.ca_file());
        config.homeservers.allowed_special_addresses = vec!["127.0.0.0/8".parse().expect("a network")];
        relay.configure(&mut config);
        unlimited(&mut config);
        change(&mut config);
        let file = dir.path().join("config.toml");
        std::fs::write(&file, toml::to_string(&config).expect("a configuration")).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_bindery"))
            .arg("serve")
            .arg("--config")
            .arg(file)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (send, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let sent = line.map(|line| send.send(line));
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        let mut process = Self { child, base: String::new(), log, _dir: dir };
        process.base = loop {
            let line = process.log.recv_timeout(Duration::from_secs(60)).expect("it says where it serves");
            if line.contains("serving") && line.contains("public_base_url") {
                let (_, port) = line.rsplit_once("127.0.0.1:").expect("its address");
                let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                break format!("http://127.0.0.1:{port}");
            }
        };
        process
    }

    /// A request from far away, through a trusted proxy.
    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Value {
        let mut request = client()
            .post(format!("{}{}", self.base, v2(path)))
            .header("x-forwarded-for", "203.0.113.77")
            .header("user-agent", "Talkative/1.0")
            .body(body.to_string());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let text = request.send().await.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Stops it as a service manager does; gives everything it said after it was ready.
    fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let mut log = String::new();
        while let Ok(line) = self.log.recv_timeout(Duration::from_secs(60)) {
            log.push_str(&line);
            log.push('\n');
        }
        assert!(self.child.wait().expect("it ends").success(), "{log}");
        log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that ended well is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn nothing_personal_is_in_the_log() {
    for (format, level) in [(LogFormat::Text, "info"), (LogFormat::Json, "info"), (LogFormat::Text, "trace")]
    {
        let relay = Relay::start(SmtpSecurity::None);
        let homeserver = Homeserver::start();
        let gateway = Gateway::start();
        let server = Process::start(&relay, &homeserver, |config| {
            config.log.format = format;
            config.log.level = level.to_owned();
            config.mail.smtp.timeout_seconds = at_least_one(1);
            gateway.configure(config);
            config.sms.http.username = Some("gateway-user".to_owned());
            config.sms.http.password = Some(Password("gateway-password".to_owned()));
        });
        let id = format!("@talkative-alice:{}", homeserver.name());
        let openid_token = homeserver.openid_token(&id);
        let register = json!({
            "access_token": openid_token,
            "token_type": "Bearer",
            "matrix_server_name": homeserver.name(),
            "expires_in": 3600,
        });
        let registered = server.post("/account/register", None, &register).await;
        let token = registered["token"].as_str().expect("a token").to_owned();
        accept_terms(&server.base, &token).await;
        let ask = async |attempt: u64| {
            let body = wanted("Private.Person@Secret-Place.example", "client-secret-1", attempt);
            server.post(REQUEST, Some(&token), &body).await
        };

        let answer = ask(1).await;
        let mail_token = relay.mails()[0].mail().token();
        for presented in ["wrong-token-1", &mail_token] {
            let body = json!({ "sid": sid(&answer), "client_secret": "client-secret-1", "token": presented });
            server.post("/validate/email/submitToken", Some(&token), &body).await;
        }
        let moods = [
            Mood::Refuse(Stage::Recipient, 550),
            Mood::Refuse(Stage::Recipient, 451),
            Mood::Refuse(Stage::Greeting, 521),
            Mood::Drop(Stage::Recipient),
        ];
        for mood in moods {
            relay.set(mood);
            assert_eq!(ask(2).await["errcode"], "M_EMAIL_SEND_ERROR");
        }
        for (attempt, mood) in [(3, Mood::Refuse(Stage::Message, 554)), (4, Mood::Silent(Stage::Message))] {
            relay.set(mood);
            assert_eq!(ask(attempt).await["errcode"], json!(null));
        }

        relay.set(Mood::Accept);
        let invited = invite(&server, &relay, &homeserver, &token, &id).await;
        let code = call(&server, &gateway, &token).await;
        let visited = visit(&server, &relay).await;

        let lookup = |pepper: &Value| {
            let hashes = [format!("{:A<43}", "hash-of-private-person")];
            json!({ "algorithm": "sha256", "pepper": pepper, "addresses": hashes })
        };
        let stale = server.post("/lookup", Some(&token), &lookup(&json!("stale"))).await;
        let found = server.post("/lookup", Some(&token), &lookup(&stale["lookup_pepper"])).await;
        assert_eq!(found["mappings"], json!({}));

        let log = server.stop();
        // Six digits may be a part of a time.
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        assert!(!log.split(|c| !digits(c)).any(|word| word == code), "the code is in the log ({level})");
        for said in [
            "550",
            "451",
            "554",
            "a mail was not sent",
            "the relay refused the mail\"",
            "the relay refused the mail for now",
            "521",
            "the relay refused EHLO or the login; check mail.smtp.username and the password",
            "the relay did not say in time whether it accepts the message",
            "the other side refused a message",
            "a message was not sent",
        ] {
            assert!(log.contains(said), "{said} is missing: {log}");
        }
        let lower = log.to_lowercase();
        for secret in [
            "private.person",
            "secret-place",
            "client-secret-1",
            "wrong-token-1",
            "talkative",
            "203.0.113.77",
            &openid_token,
            &token,
            &mail_token,
            sid(&answer),
            "invited.person",
            "secretroom",
            "secret society",
            &invited[0],
            &invited[1],
            &visited[0],
            &visited[1],
            "visitors-agent",
            "400123456",
            "400 123456",
            "phone-secret-1",
            "gateway-user",
            "gateway-password",
            "hash-of-private-person",
        ] {
            let line = lower.lines().find(|line| line.contains(&secret.to_lowercase()));
            assert_eq!(line, None, "{secret} is in the log ({level})");
        }
    }
}

/// Invites somebody, signs with the mail's key, and publishes the address, of which the homeserver
/// wants to hear nothing; gives the invitation's token and private key.
async fn invite(
    server: &Process,
    relay: &Relay,
    homeserver: &Homeserver,
    token: &str,
    id: &str,
) -> [String; 2] {
    const ADDRESS: &str = "invited.person@secret-place.example";
    homeserver.answer("/_matrix/federation/v1/3pid/onbind", Answer::Json(403, json!({})));
    let invitation = json!({
        "medium": "email", "address": ADDRESS, "room_id": "!secretroom:hs.test", "sender": id,
        "room_name": "Secret society",
    });
    let before = relay.mails().len();
    let stored = server.post("/store-invite", Some(token), &invitation).await;
    relay.until(|seen| seen.mails.len() > before).await;
    let url = sign_url(&relay.mails()[before].mail());
    let (_, query) = url.split_once('?').expect("a query");
    for key in ["", "x"] {
        let path = format!("/sign-ed25519?{query}{key}&mxid={}", id.replace('@', "%40"));
        server.post(&path, Some(token), &json!({})).await;
    }
    let answer = server.post(REQUEST, Some(token), &wanted(ADDRESS, "client-secret-1", 1)).await;
    let mail_token = relay.mails()[before + 1].mail().token();
    let session =
        json!({ "sid": sid(&answer), "client_secret": "client-secret-1", "token": mail_token, "mxid": id });
    server.post("/validate/email/submitToken", Some(token), &session).await;
    let bound = server.post("/3pid/bind", Some(token), &session).await;
    assert_eq!(bound["address"], ADDRESS);
    homeserver.until_told(1).await;
    let (_, key) = query.split_once("private_key=").expect("a key");
    [stored["token"].as_str().expect("a token").to_owned(), key.to_owned()]
}

/// Opens the page of the invited person, suppresses the address, and asks again for it and for one that
/// nobody has; gives the token of the link and the secret of the browser.
async fn visit(server: &Process, relay: &Relay) -> [String; 2] {
    let client = client();
    let send = async |path: &str, cookie: &str, body: String| {
        let request = client.post(format!("{}{path}", server.base)).header("cookie", cookie).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.header("user-agent", "visitors-agent").send().await.expect("an answer")
    };
    let ask = "address=invited.person@secret-place.example";
    let is_link = |mail: &Received| mail.mail().text.contains("/me/visit/");
    send("/me", "", ask.to_owned()).await;
    relay.until(|seen| seen.mails.iter().any(is_link)).await;
    let mail = relay.mails().into_iter().find(is_link).expect("a mail").mail();
    let (_, rest) = mail.text.split_once("/me/visit/").expect("a link");
    let token = rest.split_whitespace().next().expect("its end").to_owned();
    let (link, stop) = (format!("/me/visit/{token}"), mail.stop_link());
    let question = client.get(format!("{}{link}", server.base)).send().await.expect("an answer");
    let browser = question.headers()["set-cookie"].to_str().expect("text");
    let browser = browser.split_once(';').expect("attributes").0.to_owned();
    let question = question.text().await.expect("text");
    let form_in = |page: &str| {
        let (_, form) = page.split_once("name=\"form\" value=\"").expect("a form");
        form.split_once('"').expect("its end").0.to_owned()
    };
    let opened = send(&link, &browser, format!("form={}", form_in(&question))).await;
    let cookie = opened.headers()["set-cookie"].to_str().expect("text");
    let cookie = cookie.split_once(';').expect("attributes").0.to_owned();
    let page = client.get(format!("{}/me/data", server.base)).header("cookie", &cookie);
    let page = page.send().await.expect("an answer").text().await.expect("text");
    let form = form_in(&page);
    for path in ["/me/export", "/me/language", "/me/suppress", "/me/withdraw"] {
        send(path, &cookie, format!("form={form}&language=fr&sure=yes")).await;
    }
    for address in [ask, "address=secret-place@nobody.example"] {
        send("/me", "", address.to_owned()).await;
    }
    for decision in ["decision=allow", "List-Unsubscribe=One-Click"] {
        send(&stop, "", decision.to_owned()).await;
    }
    [token, cookie.split_once('=').expect("a value").1.to_owned()]
}

/// Asks for a code, tries a wrong one and the right one, and asks while the gateway fails; gives the code.
async fn call(server: &Process, gateway: &Gateway, token: &str) -> String {
    let wanted = |attempt: u64| {
        json!({
            "country": "GB", "phone_number": "07400 123456", "client_secret": "phone-secret-1",
            "send_attempt": attempt,
        })
    };
    let path = "/validate/msisdn/requestToken";
    let answer = server.post(path, Some(token), &wanted(1)).await;
    let code = gateway.code();
    for presented in ["wrong-token-1", &code] {
        let body = json!({ "sid": sid(&answer), "client_secret": "phone-secret-1", "token": presented });
        server.post("/validate/msisdn/submitToken", Some(token), &body).await;
    }
    gateway.answer("/send", Answer::Json(402, json!({ "to": "+447400123456" })));
    assert_eq!(server.post(path, Some(token), &wanted(2)).await["errcode"], "M_SEND_ERROR");
    code
}

#[tokio::test]
async fn the_log_says_why_a_relay_cannot_be_used() {
    let plain = Relay::start(SmtpSecurity::None);
    let encrypted = Relay::start(SmtpSecurity::Tls);
    let homeserver = Homeserver::start();
    for (relay, security, trusted, reason) in [
        (&plain, SmtpSecurity::Starttls, true, "STARTTLS"),
        (&encrypted, SmtpSecurity::Tls, false, "certificate"),
    ] {
        let server = Process::start(relay, &homeserver, |config| {
            config.mail.smtp.security = security;
            config.mail.smtp.extra_ca_file = trusted.then(|| relay.authority.file());
        });
        let id = format!("@alice:{}", homeserver.name());
        let register = json!({
            "access_token": homeserver.openid_token(&id),
            "token_type": "Bearer",
            "matrix_server_name": homeserver.name(),
            "expires_in": 3600,
        });
        let registered = server.post("/account/register", None, &register).await;
        let token = registered["token"].as_str().expect("a token").to_owned();
        accept_terms(&server.base, &token).await;
        let refused = server.post(REQUEST, Some(&token), &wanted("a@b.test", "secret", 1)).await;
        assert_eq!(refused["errcode"], "M_EMAIL_SEND_ERROR");
        let log = server.stop();
        assert!(log.contains(reason), "{reason} is missing: {log}");
        assert!(!log.contains("a@b.test"), "{log}");
    }
}
