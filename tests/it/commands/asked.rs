//! What the commands need, ask and say: no secrets, no migration, a question before an erasure, and a quiet end.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{invite, run, text};
use crate::support::{
    homeserver::Homeserver,
    program::{Program, bindery, config_file},
};

/// Each operator's command, with arguments that it accepts.
const COMMANDS: [&[&str]; 11] = [
    &["audit"],
    &["erase", "--yes", "--address", "a@example.org"],
    &["export", "--address", "a@example.org"],
    &["invitations", "cancel", "--token", "unknown"],
    &["log", "lookups"],
    &["pepper", "rotate"],
    &["retention", "run"],
    &["retention", "status"],
    &["suppression", "check", "--address", "a@example.org"],
    &["suppression", "lift", "--address", "a@example.org"],
    &["erase", "--yes", "--mxid", "@a:hs.test"],
];

#[test]
fn an_operators_command_reads_no_secret_of_mail_or_sms() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    Program::start(&config).stop();
    let missing = dir.path().join("missing");
    let missing = missing.to_str().expect("UTF-8");
    let environment = [
        ("BINDERY_CONFIG", config.to_str().expect("UTF-8")),
        ("BINDERY_MAIL__TRANSPORT", "smtp"),
        ("BINDERY_MAIL__SMTP__USERNAME", "u"),
        ("BINDERY_MAIL__SMTP__PASSWORD_FILE", missing),
        ("BINDERY_MAIL__SMTP__EXTRA_CA_FILE", missing),
        ("BINDERY_MAIL__TEMPLATES_DIR", missing),
    ];
    assert_eq!(run(&["config", "check"], &environment).status.code(), Some(78), "the server needs them");
    for command in COMMANDS {
        let output = run(command, &environment);
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    }
}

#[test]
fn only_serve_migrates() {
    let dir = TempDir::new().expect("a directory");
    let database = dir.path().join("bindery.redb");
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/databases/schema-2.redb");
    fs::copy(old, &database).expect("copied");
    fs::create_dir(dir.path().join("logs")).expect("created");
    let data = dir.path().to_str().expect("UTF-8");
    let environment = [
        ("BINDERY_SERVER_NAME", "id.test"),
        ("BINDERY_PUBLIC_BASE_URL", "https://id.test"),
        ("BINDERY_DATA_DIR", data),
    ];
    for command in COMMANDS {
        let output = run(command, &environment);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains("schema 2; this Bindery uses 4") && said.contains("start the server once"),
            "{said}"
        );
    }
    assert!(!dir.path().join("bindery.redb.schema-2").exists(), "nothing was migrated");
    let output = run(&["audit"], &[environment[2]]);
    assert!(text(&output.stderr).contains("belongs to the server name id.test"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn erase_says_what_would_go_and_asks() {
    let homeserver = Homeserver::start();
    let alice = format!("@alice:{}", homeserver.name());
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    let mut program = Program::start(&config);
    invite(&program, &homeserver, &["a@example.org", "b@example.org"]).await;
    let config = config.to_str().expect("UTF-8");
    let output = run(&["erase", "--mxid", &alice, "--config", config], &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("standard input is no terminal; add --yes"), "{said}");

    let on_terminal = |answer: &str| {
        let command = format!("{} erase --mxid {alice} --config {config}", env!("CARGO_BIN_EXE_bindery"));
        let script = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut script) = script else {
            println!("skipped: this system has no script(1)");
            return None;
        };
        let mut input = script.stdin.take().expect("a pipe");
        writeln!(input, "{answer}").expect("written");
        let output = script.wait_with_output().expect("it ends");
        drop(input);
        Some((output.status.code(), text(&output.stdout)))
    };
    if let Some((status, said)) = on_terminal("no") {
        assert_eq!(status, Some(1), "{said}");
        let counts =
            "This will be erased: pending invitations (2), access tokens (1), accepted documents (1).";
        assert!(said.contains(counts) && said.contains("nothing was erased"), "{said}");
        let (status, said) = on_terminal("yes").expect("as before");
        assert_eq!(status, Some(0), "{said}");
        let erased = "Erased: pending invitations (2), access tokens (1), accepted documents (1).";
        assert!(said.contains(erased), "{said}");
        let (status, said) = on_terminal("").expect("as before");
        assert!(status == Some(0) && said.contains("Nothing is stored about them."), "{said}");
    }
    program.stop();
}

#[test]
fn an_export_of_an_unknown_person_is_empty_and_says_so() {
    let homeserver = Homeserver::start();
    let dir = TempDir::new().expect("a directory");
    let config = config_file(dir.path(), &homeserver);
    Program::start(&config).stop();
    for _ in 0..2 {
        let output =
            run(&["export", "--address", "a@example.org", "--config", config.to_str().expect("UTF-8")], &[]);
        assert!(output.status.success());
        let export: Value = serde_json::from_slice(&output.stdout).expect("standard output has only JSON");
        assert_eq!(export["subject"], "a@example.org");
        assert!(text(&output.stderr).contains("Nothing is stored about them"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_closed_pipe_ends_a_command_silently() {
    let mut child = bindery()
        .args(["config", "example"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Nobody reads: whether the program writes before or after this, it gets the same error.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

    // As `head -1` does it.
    let line = "{ \"$0\" config example; echo \"status $?\" >&2; } | head -1";
    let output =
        Command::new("sh").args(["-c", line, env!("CARGO_BIN_EXE_bindery")]).output().expect("a shell");
    assert_eq!(text(&output.stderr), "status 0\n");
}

#[test]
fn the_version_tells_what_was_built() {
    for arguments in [&["--version"][..], &["version"]] {
        let said = text(&run(arguments, &[]).stdout);
        assert_eq!(said, format!("bindery {}\n", env!("CARGO_PKG_VERSION")));
    }
    let output = run(&["version", "--verbose"], &[]);
    let lines = BufReader::new(&*output.stdout).lines().map(|line| line.expect("UTF-8"));
    let lines: Vec<String> = lines.collect();
    let names: Vec<&str> =
        lines[1..].iter().map(|line| line.split(": ").next().unwrap_or_default()).collect();
    assert_eq!(names, ["commit", "compiler", "target", "features", "database schema"]);
    assert!(lines[2].starts_with("compiler: rustc 1."), "{lines:?}");
    assert_eq!(lines[5], "database schema: 4");
}
