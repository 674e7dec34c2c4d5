//! The operator's commands give the same answers through the control socket and without a server.

use std::path::Path;

use bindery::{
    admin::{
        CancelInvitations, CheckSuppression, Command, Erase, Export, GetBackupProgress, GetRetentionStatus,
        LiftSuppression, MakeBackup, PlanTerms, PreviewErasure, ReadAudit, RotatePepper, RunRetention,
    },
    domain::{audit::By, server_name::ServerName, threepid::Address, time::Millis},
    ops::{address::suppression::suppress, genesis},
    store::Store,
};
use serde_json::{Value, json};

use super::{invite, run, text};
use crate::support::{
    Server, TestClock,
    core::core_on,
    homeserver::Homeserver,
    jobs::OUTBOX,
    polling::until,
    program::{Program, config_file},
};

/// Each command as it is typed. What changes something stands behind what shows it.
fn commands(alice: &str) -> Vec<Vec<&str>> {
    let commands = [
        "config check",
        "retention status --json",
        "export --address A@Example.org",
        "export --mxid ALICE",
        "suppression check --address suppressed@example.org",
        "suppression lift --address suppressed@example.org",
        "suppression check --address suppressed@example.org",
        "suppression lift --address +44-7400-123456",
        "invitations cancel --address b@example.org",
        "invitations cancel --token unknown",
        "invitations cancel --sender @bob:hs.test",
        "erase --yes --address c@example.org",
        "erase --yes --mxid ALICE",
        "erase --yes --mxid ALICE",
        "pepper rotate",
        "retention run",
        "audit --json",
        "audit --json --mxid ALICE",
        "audit --address nobody@example.org",
        // And what cannot be parsed.
        "export --address nobody",
        "erase --yes --mxid alice",
        "audit --mxid alice",
        "suppression check --address 12",
        "invitations cancel --address +447400123456",
        "invitations cancel --sender example.org",
        "invitations cancel --token t\u{f6}ken",
    ];
    let with_alice = |word| if word == "ALICE" { alice } else { word };
    commands.map(|command| command.split(' ').map(with_alice).collect()).into()
}

/// Runs every command on a copy of `data`.
fn answers(data: &Path, homeserver: &Homeserver, alice: &str, is_running: bool) -> Vec<(String, String)> {
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), homeserver);
    copy_dir(data, &dir.path().join("data"));
    let mut program = is_running.then(|| Program::start(&config));
    let config = config.to_str().expect("UTF-8");
    // A longer period, so that `config check` has somebody to ask again.
    let environment = [("BINDERY_PRIVACY__ACCESS_LOG_DAYS", "60")];
    let mut answers = Vec::new();
    for words in commands(alice) {
        let environment = if words[0] == "config" { &environment[..] } else { &[] };
        let output = run(&[&words[..], &["--config", config]].concat(), environment);
        let said = format!("{:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr));
        let said = said.replace(dir.path().to_str().expect("UTF-8"), "DIR");
        answers.push((words.join(" "), without_times(&said)));
    }
    if let Some(program) = &mut program {
        program.stop();
    }
    answers
}

fn waiting_to_be_sent(config: &str) -> u64 {
    let output = run(&["retention", "status", "--json", "--config", config], &[]);
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rules = status["rules"].as_array().expect("rules");
    let rule = rules.iter().find(|rule| rule["what"] == OUTBOX).expect("the outbox");
    rule["rows"].as_u64().expect("a number")
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            copy_dir(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Milliseconds since 1970 have 13 digits.
fn without_times(text: &str) -> String {
    let numbers = text.split_inclusive(|c: char| !c.is_ascii_digit());
    let is_time = |number: &str| number.chars().filter(char::is_ascii_digit).count() == 13;
    numbers.map(|number| if is_time(number) { "TIME\n" } else { number }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_command_answers_the_same_whether_or_not_the_server_runs() {
    let homeserver = Homeserver::start();
    let alice = format!("@alice:{}", homeserver.name());
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let file = std::fs::read_to_string(&config).expect("readable");
    std::fs::write(&config, file + "privacy.access_log_days = 50\n").expect("written");
    let mut program = Program::start(&config);
    invite(&program, &homeserver, &["a@example.org", "b@example.org", "c@example.org"]).await;
    let config = config.to_str().expect("UTF-8");
    // The server that is compared must find nothing to send, or the outbox would differ.
    until("the mails are sent", async || waiting_to_be_sent(config) == 0).await;
    program.stop();
    let data = dir.path().join("data");
    {
        let name = ServerName::parse("id.test").expect("a name");
        let store = Store::open(&data, 1 << 20, &name, || genesis(Millis(1))).expect("the same database");
        let address = Address::email("suppressed@example.org").expect("an address");
        suppress(&core_on(store, TestClock::new()).await, address, By::Owner).await.expect("written");
    }
    // Nor may its first round of retention find something to rewrite.
    assert!(run(&["retention", "run", "--config", config], &[]).status.success());
    let offline = answers(&data, &homeserver, &alice, false);
    let online = answers(&data, &homeserver, &alice, true);
    for (offline, online) in offline.iter().zip(&online) {
        assert_eq!(offline, online, "without a server and with one");
    }
    let said = |command: &str| {
        let found = offline.iter().find(|(typed, _)| typed.starts_with(command));
        &found.unwrap_or_else(|| panic!("no {command}")).1
    };
    assert!(said("config check").contains("1 will be asked"), "{}", said("config check"));
    assert!(said("invitations cancel --address b").contains("One invitation was cancelled"));
    assert!(
        said("erase --yes --mxid").contains("Erased: pending invitations (1), access tokens (1)"),
        "{}",
        said("erase --yes --mxid")
    );
    assert!(said("audit --json").contains("pepper_rotation"), "{}", said("audit --json"));
    for (command, words) in [
        ("export --address nobody", "bindery: 'nobody' is neither an email address nor a phone number"),
        ("audit --mxid alice", "bindery: 'alice' is not a Matrix ID"),
        ("invitations cancel --address +447400123456", "bindery: '+447400123456' is not an email address"),
    ] {
        assert!(said(command).starts_with(&format!("Some(1)\n{words}")), "{}", said(command));
    }
}

#[tokio::test]
async fn the_socket_says_what_is_wrong_with_a_command() {
    let server = Server::start().await;
    let (status, answer) = server.control_text("/dance", "null".to_owned()).await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_UNRECOGNIZED")));
    for path in [
        CancelInvitations::PATH,
        CheckSuppression::PATH,
        Erase::PATH,
        Export::PATH,
        GetBackupProgress::PATH,
        GetRetentionStatus::PATH,
        LiftSuppression::PATH,
        MakeBackup::PATH,
        PlanTerms::PATH,
        PreviewErasure::PATH,
        ReadAudit::PATH,
        RotatePepper::PATH,
        RunRetention::PATH,
    ] {
        for body in ["", "{", "null null", "{'address': 1}", "\u{0}"] {
            let (status, answer) = server.control_text(path, body.to_owned()).await;
            assert_eq!((status, &answer["errcode"]), (400, &json!("M_NOT_JSON")), "{path} {body}");
        }
        for body in [json!(7), json!([[]]), json!("x"), json!({ "dance": 1 }), json!({ "address": 1 })] {
            let (status, answer) = server.control_text(path, body.to_string()).await;
            assert_eq!((status, &answer["errcode"]), (400, &json!("M_INVALID_PARAM")), "{path} {body}");
        }
    }
    let address = json!({ "address": "a@example.org" });
    let with = |member: &str, value: Value| {
        let mut command = address.clone();
        command[member] = value;
        command
    };
    for (path, command, words) in [
        ("/suppression/lift", with("dance", json!(1)), "unknown field `dance`"),
        ("/audit", json!({ "since": 0, "dance": 1 }), "unknown field `dance`"),
        ("/audit", json!({ "since": "0" }), "invalid type: string \"0\", expected u64"),
        ("/erase", with("mxid", json!("@alice:hs.test")), "expected map with a single key"),
        ("/erase", json!({ "address": "nobody" }), "'nobody' is neither an email address nor a phone number"),
        ("/backup", json!({ "file": "one.backup" }), "one.backup names no file: write the whole path"),
        ("/backup", json!({ "file": "/" }), "/ names no file"),
        ("/backup", json!({ "file": null }), "name a file for the backup"),
        ("/audit", json!({ "since": 0, "about": { "mxid": "alice" } }), "'alice' is not a Matrix ID"),
    ] {
        let answer = server.control(path, &command).await;
        assert_eq!(answer["errcode"], "M_INVALID_PARAM", "{path} {command}");
        let said = answer["error"].as_str().expect("a text");
        assert!(said.contains(words), "{path} {command}: {said}");
    }
    assert_eq!(server.control("/suppression/check", &address).await, json!({ "since": null }));
}
