//! What an operator watches: `/health`, `/ready`, `bindery health`, `bindery status`, the identifier of a request, and
//! the line of each start.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output},
};

use bindery::{admin::GetStatus, domain::bucket::Rate};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Server, client,
    homeserver::Homeserver,
    program::{Program, config_file},
    v2,
};

fn run(arguments: &[&str], config: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
    command.args(arguments).arg("--config").arg(config).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn health_and_readiness_are_told_to_monitoring_and_to_the_operator_and_to_nobody_else() {
    let server = Server::start().await;
    let is_ready = async || server.monitoring("/ready").await.0 == 200;
    server.until("the server is ready", is_ready).await;
    let (status, ready) = server.monitoring("/ready").await;
    assert_eq!(status, 200, "{ready}");
    let parts: Value = serde_json::from_str(&ready).expect("JSON");
    let expected = json!({
        "ready": true, "database": "ok", "writer": "ok", "outbox": "ok", "relay": "no mail since the start",
    });
    assert_eq!(parts, expected);
    assert_eq!(ready.lines().count(), 7, "a line for each part:\n{ready}");
    assert_eq!(server.monitoring("/health").await, (200, "ok\n".to_owned()));
    let alice = server.user("alice").await;
    server.request_token(&alice, "alice@example.org", "secret", 1).await;
    let (_, ready) = server.monitoring("/ready").await;
    assert!(ready.contains("accepted the last mail, at 2027-01-15 08:00"), "{ready}");
    assert!(!ready.contains("alice"), "{ready}");
    for path in ["/health", "/ready", "/metrics", "/status"] {
        let reply = server.send(server.build(reqwest::Method::GET, path)).await;
        assert_eq!(reply.status, 404, "{path}");
        let posted = server.send(server.build(reqwest::Method::POST, path)).await;
        assert_eq!(posted.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_health_has_one_line_and_a_status() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let without = run(&["health"], &config);
    assert_eq!(without.status.code(), Some(1));
    assert!(text(&without.stderr).starts_with("bindery: no server runs on "), "{}", text(&without.stderr));
    let mut program = Program::start(&config);
    let with = run(&["health"], &config);
    assert_eq!(
        (with.status.code(), text(&with.stdout)),
        (Some(0), "ready\n".to_owned()),
        "{}",
        text(&with.stderr)
    );
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_status_shows_the_server_or_what_its_database_says() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let nothing = text(&run(&["status"], &config).stdout);
    assert!(
        nothing.starts_with("No server runs on ") && nothing.contains("There is no database yet"),
        "{nothing}"
    );
    let mut program = Program::start(&config);
    let shown = text(&run(&["status"], &config).stdout);
    for expected in [
        "id.test, Bindery ",
        "running since",
        "ready",
        "schema 4",
        "bindings",
        "outbox: invitation_mail",
        "last retention",
        "last backup",
    ] {
        assert!(shown.contains(expected), "{expected}\n{shown}");
    }
    assert!(
        shown.lines().count() < 40
            && shown.lines().all(|line| line.len() < 160 || line.starts_with("Warning: ")),
        "one screen:\n{shown}"
    );
    let json: Value = serde_json::from_slice(&run(&["status", "--json"], &config).stdout).expect("JSON");
    assert_eq!((&json["running"], &json["readiness"]["ready"]), (&json!(true), &json!(true)), "{json:#}");
    let watched = run(&["status", "--watch"], &config);
    assert_eq!(watched.status.code(), Some(1));
    assert!(text(&watched.stderr).contains("--watch needs a terminal"));
    program.stop();
    let stopped = text(&run(&["status"], &config).stdout);
    assert!(stopped.starts_with("No server runs on ") && stopped.contains("schema 4"), "{stopped}");
    let json: Value = serde_json::from_slice(&run(&["status", "--json"], &config).stdout).expect("JSON");
    assert_eq!((&json["running"], &json["database"]["bindings"]), (&json!(false), &json!(0)), "{json:#}");
    fs::write(dir.path().join("data/bindery.redb"), "damaged").expect("written");
    let damaged = text(&run(&["status"], &config).stdout);
    assert!(damaged.contains("cannot be read"), "{damaged}");
}

#[tokio::test]
async fn status_counts_a_day_of_mails_and_refusals() {
    let server = Server::start_with(|config| config.limits.request_token_per_address = Rate::new(1, 1)).await;
    let alice = server.user("alice").await;
    server.request_token(&alice, "alice@example.org", "one", 1).await;
    let body = json!({ "email": "alice@example.org", "client_secret": "two", "send_attempt": 1 });
    server.post("/validate/email/requestToken", &alice, &body).await.refused(429, "M_LIMIT_EXCEEDED");
    let status = server.control("/status", &json!(GetStatus)).await;
    assert_eq!(status["mails"], json!({ "accepted": 1 }), "{status:#}");
    assert_eq!(status["refused"], json!({ "request_token_per_address": 1 }), "{status:#}");
    assert_eq!(status["counted_since"], status["started"]);
    assert_eq!((&status["database"]["tokens"], &status["database"]["sessions"]), (&json!(1), &json!(1)));
    assert!(!status.to_string().contains("alice"), "{status:#}");
    server.pass(std::time::Duration::from_secs(25 * 3600)).await;
    let status = server.control("/status", &json!(GetStatus)).await;
    assert_eq!((&status["mails"], &status["refused"]), (&json!({}), &json!({})), "{status:#}");
}

#[tokio::test]
async fn each_answer_has_an_identifier_that_no_stranger_chooses() {
    let server = Server::start().await;
    let mut seen = std::collections::HashSet::new();
    for path in [v2(""), v2("/lookup"), "/".to_owned(), "/nowhere".to_owned()] {
        let request = server.build(reqwest::Method::GET, &path).header("x-request-id", "chosen");
        let reply = server.send(request).await;
        let id = reply.headers["x-request-id"].to_str().expect("text").to_owned();
        assert!(id.len() == 16 && id.bytes().all(|c| c.is_ascii_hexdigit()), "{id}");
        assert!(seen.insert(id), "{path}");
    }
}

/// The lines of a program's log until one has these words.
fn lines_until(program: &mut Program, words: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert_ne!(program.log.read_line(&mut line).expect("a line"), 0, "no {words} in {lines:#?}");
        lines.push(line);
        if lines.last().is_some_and(|line| line.contains(words)) {
            return lines;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_line_of_the_log_has_the_identifier_that_the_answer_had() {
    for format in ["text", "json"] {
        let homeserver = Homeserver::start();
        let dir = TempDir::new().expect("a directory");
        let config = config_file(dir.path(), &homeserver);
        let settings = fs::read_to_string(&config).expect("a file") + &format!("log.format = '{format}'\n");
        fs::write(&config, settings).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
        command.args(["serve", "--config"]).arg(&config).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut program = Program { child, base: String::new(), log };
        let serving = lines_until(&mut program, "serving").pop().expect("a line");
        let (_, port) = serving.rsplit_once("127.0.0.1:").expect("its address");
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        // A homeserver that cannot be reached has a line.
        let body = json!({ "access_token": "t", "token_type": "Bearer", "matrix_server_name": "127.0.0.1:1", "expires_in": 1 });
        let url = format!("http://127.0.0.1:{port}{}", v2("/account/register"));
        let reply = client().post(url).body(body.to_string()).send().await.expect("an answer");
        let id = reply.headers()["x-request-id"].to_str().expect("text").to_owned();
        assert_eq!(reply.status(), 502);
        let line = lines_until(&mut program, &id).pop().expect("a line");
        match format {
            "json" => {
                let line: Value = serde_json::from_str(&line).expect("JSON");
                assert_eq!(line["request_id"], json!(id));
            }
            _ => assert!(line.ends_with(&format!(" request_id={id}\n")), "{line}"),
        }
        program.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_line_of_the_start_says_what_runs_with_what_and_a_new_database_is_a_warning() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    for is_first in [true, false] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
        command.args(["serve", "--config"]).arg(&config).stderr(std::process::Stdio::piped());
        command.env("BINDERY_LOG__FORMAT", "journald");
        let mut child = command.spawn().expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut program = Program { child, base: String::new(), log };
        let lines = lines_until(&mut program, "started");
        let warned = lines
            .iter()
            .any(|line| line.starts_with("<4> WARN") && line.contains("a new database was created"));
        assert_eq!(warned, is_first, "{lines:#?}");
        let line = lines.last().expect("a line");
        assert!(line.starts_with("<6> INFO "), "a priority and no time: {line}");
        let file = format!("configuration={}", config.display());
        let data = format!("data_dir={}", dir.path().join("data").display());
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        for said in [
            &file,
            &data,
            &version,
            "schema=4",
            "signing_key=\"ed25519:0\"",
            "listen=[127.0.0.1:",
            "metrics_listen=[]",
        ] {
            assert!(line.contains(said), "{said} is not in {line}");
        }
        // Requests are answered, so it can be stopped.
        lines_until(&mut program, "serving");
        program.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn refusals_by_limits_are_one_line() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let settings =
        fs::read_to_string(&config).expect("a file") + "limits.unbind_per_ip = { burst = 1, per_hour = 1 }\n";
    fs::write(&config, settings).expect("written");
    let mut program = Program::start(&config);
    for _ in 0..21 {
        let url = format!("{}{}", program.base, v2("/3pid/unbind"));
        client().post(url).body("{}").send().await.expect("an answer");
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&program.child),
        rustix::process::Signal::TERM,
    )
    .expect("a signal");
    let lines = lines_until(&mut program, "the database is closed");
    let summed: Vec<_> = lines.iter().filter(|line| line.contains("limits refused requests")).collect();
    assert_eq!(summed.len(), 1, "{lines:#?}");
    assert!(summed[0].contains("refused=\"unbind_per_ip: 20\""), "{}", summed[0]);
    assert!(program.child.wait().expect("it ends").success());
}
