//! `bindery init`: what it writes can be used, and nothing is overwritten.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use tempfile::TempDir;

use super::{run, text};

const PASSWORD: &str = "a # \"password\" with signs";

/// Runs it with every answer in the arguments.
fn init(dir: &Path, more: &[&str]) -> Output {
    let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    fs::write(dir.join("typed"), format!("{PASSWORD}\nmore\n")).expect("written");
    let (output, data, typed) = (path("etc/bindery.toml"), path("data"), path("typed"));
    let mut arguments = vec!["init", "--output", &output, "--data-dir", &data];
    // Only root gives the files away.
    arguments.extend(["--user", "nobody", "--server-name", "id.example.org"]);
    arguments.extend([
        "--relay",
        "mail.example.org:587",
        "--relay-user",
        "b\"i",
        "--relay-password-file",
        &typed,
    ]);
    arguments.extend(["--mail-from", "noreply@example.org", "--operator-name", "Ex\"ample \\ Society"]);
    arguments.extend(["--operator-address", "1 Example Road", "--operator-contact", "privacy@example.org"]);
    arguments.extend(more);
    run(&arguments, &[])
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn what_init_writes_is_a_good_configuration_that_only_the_server_reads() {
    for (more, expected) in [
        (
            &["--homeserver", "example.org", "--homeserver", "matrix.test:8448", "--logging", "full"][..],
            "allow = [\"example.org\", \"matrix.test:8448\"]",
        ),
        (&["--all-homeservers", "--logging", "sparse"], "lookup_log_days = 1"),
    ] {
        let dir = TempDir::new().expect("a directory");
        let done = init(dir.path(), more);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        let said = text(&done.stdout);
        for hint in [
            "reverse_proxy",
            "X-Forwarded-For",
            "m.identity_server",
            "default_identity_server",
            "config check",
        ] {
            assert!(said.contains(hint), "{hint}: {said}");
        }
        let file = dir.path().join("etc/bindery.toml");
        let written = fs::read_to_string(&file).expect("readable");
        assert!(written.contains(expected) && !written.contains(PASSWORD), "{written}");
        let check = run(&["config", "check", "--config", file.to_str().expect("UTF-8")], &[]);
        assert_eq!(check.status.code(), Some(0), "{}", text(&check.stderr));
        let password = dir.path().join("etc/smtp-password");
        assert_eq!(fs::read_to_string(&password).expect("readable"), format!("{PASSWORD}\n"));
        assert_eq!([mode(&file), mode(&password), mode(&dir.path().join("data"))], [0o640, 0o600, 0o700]);
        let left: Vec<_> = fs::read_dir(dir.path().join("etc")).expect("a directory").collect();
        assert_eq!(left.len(), 2, "nothing else is left");
    }
}

#[test]
fn init_overwrites_nothing() {
    let dir = TempDir::new().expect("a directory");
    let more = ["--homeserver", "example.org", "--logging", "full"];
    assert_eq!(init(dir.path(), &more).status.code(), Some(0));
    let file = dir.path().join("etc/bindery.toml");
    fs::write(&file, "mine").expect("written");
    let again = init(dir.path(), &more);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("overwrites nothing"), "{}", text(&again.stderr));
    assert_eq!(fs::read_to_string(&file).expect("readable"), "mine");
    // Nor the password, and without it there is no configuration.
    fs::remove_file(&file).expect("removed");
    let again = init(dir.path(), &more);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("smtp-password exists already") && !file.exists());
}

#[test]
fn without_a_terminal_init_names_all_missing_arguments_at_once() {
    let dir = TempDir::new().expect("a directory");
    let output = dir.path().join("bindery.toml");
    let done = run(&["init", "--user", "nobody", "--output", output.to_str().expect("UTF-8")], &[]);
    assert_eq!(done.status.code(), Some(1));
    let said = text(&done.stderr);
    for argument in
        ["--server-name", "--homeserver or --all-homeservers", "--relay", "--operator-name", "--logging"]
    {
        assert!(said.contains(argument), "{argument}: {said}");
    }
    assert!(!output.exists());
}

#[test]
fn wrong_answers_are_refused_and_nothing_is_written() {
    for (more, expected) in [
        (["--server-name", "https://id.example.org"], "--server-name"),
        (["--relay", "smtps://mail.example.org"], "--relay"),
        (["--mail-from", "example.org"], "--mail-from"),
        (["--operator-name", "two\nlines"], "--operator-name"),
        (["--operator-contact", "nobody"], "--operator-contact"),
        (["--public-url", "id.example.org"], "public_base_url"),
        (["--homeserver", "@alice:example.org"], "homeservers.allow"),
        (["--relay-password-file", "/nowhere/password"], "/nowhere/password"),
    ] {
        let dir = TempDir::new().expect("a directory");
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
        let (output, data, typed) = (path("bindery.toml"), path("data"), path("typed"));
        fs::write(dir.path().join("typed"), PASSWORD).expect("written");
        let good = [
            ("--server-name", "id.example.org"),
            ("--relay", "mail.example.org"),
            ("--relay-user", "bindery"),
            ("--relay-password-file", &typed),
            ("--mail-from", "noreply@example.org"),
            ("--operator-name", "Example"),
            ("--operator-address", "1 Example Road"),
            ("--operator-contact", "privacy@example.org"),
            ("--homeserver", "example.org"),
            ("--logging", "full"),
        ];
        let mut arguments = vec!["init", "--user", "nobody", "--output", &output, "--data-dir", &data];
        arguments.extend(
            good.iter().filter(|(name, _)| *name != more[0]).flat_map(|(name, value)| [*name, value]),
        );
        arguments.extend(more);
        let done = run(&arguments, &[]);
        assert!(matches!(done.status.code(), Some(1 | 78)), "{more:?}: {done:?}");
        assert!(text(&done.stderr).contains(expected), "{more:?}: {}", text(&done.stderr));
        let left: Vec<_> =
            fs::read_dir(dir.path()).expect("a directory").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["typed"], "{more:?}");
    }
}
