//! Which configuration file the commands read, and that they say which one it was.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::{run, text};
use crate::support::program::STRANGER;

/// Runs a command with this folder as /etc; `None` if this user may not do that.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn with_etc(etc: &Path, command: &str) -> Option<(Option<i32>, String)> {
    if !geteuid().is_root() {
        println!("skipped: only root can replace /etc");
        return None;
    }
    const CANNOT_HIDE: i32 = 97;
    let line = format!("mount --bind '{}' /etc || exit {CANNOT_HIDE}; {command}", etc.display());
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &line, env!("CARGO_BIN_EXE_bindery")])
        .env_remove("BINDERY_CONFIG")
        .output();
    match output {
        Ok(output) if output.status.code() != Some(CANNOT_HIDE) => {
            Some((output.status.code(), text(&output.stdout) + &text(&output.stderr)))
        }
        other => {
            println!("skipped: this user cannot replace /etc: {other:?}");
            None
        }
    }
}

#[test]
fn the_file_in_etc_is_read_if_it_is_there_and_no_other_one_is_named() {
    let dir = TempDir::new().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let etc = dir.path().join("etc");
    fs::create_dir_all(etc.join("bindery")).expect("created");
    fs::write(
        etc.join("passwd"),
        format!("root:x:0:0::/:/bin/sh\nsmith:x:{STRANGER}:{STRANGER}::/:/bin/sh\n"),
    )
    .expect("written");
    // The certificate authorities of the system. Without them, the check fails.
    let _ = Command::new("cp").args(["-a", "/etc/ssl"]).arg(&etc).status();
    let check = |command: &str| with_etc(&etc, command);
    let Some((status, said)) = check("\"$0\" config check") else { return };
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("It comes from no configuration file."), "{said}");

    let file = etc.join("bindery/bindery.toml");
    fs::write(&file, "server_name = 'id.test'\npublic_base_url = 'https://id.test'\ndata_dir = '/nowhere'\n")
        .expect("written");
    let (_, said) = check("\"$0\" config check").expect("as before");
    assert!(said.contains("It comes from /etc/bindery/bindery.toml. This is id.test"), "{said}");
    let (status, said) = check("\"$0\" audit").expect("as before");
    let expected = "there is no database in /nowhere; check data_dir in /etc/bindery/bindery.toml";
    assert!(status == Some(1) && said.contains(expected), "{said}");
    let (_, said) = check("BINDERY_CONFIG= \"$0\" config check").expect("as before");
    assert!(said.contains("It comes from no configuration file."), "an empty name means none: {said}");

    // Another user learns who they are and what to do.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    for folder in [0o755, 0o700] {
        fs::set_permissions(etc.join("bindery"), fs::Permissions::from_mode(folder)).expect("set");
        let as_smith = format!("setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups \"$0\" audit");
        let (status, said) = check(&as_smith).expect("as before");
        if said.contains("setpriv:") {
            println!("skipped: another user cannot run the program from this folder: {said}");
            return;
        }
        assert_eq!(status, Some(78), "{said}");
        for part in
            ["as the user smith", "cannot use /etc/bindery/bindery.toml", "the user that runs the server"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[test]
fn the_file_may_be_named_before_and_after_the_command() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("named.toml");
    fs::write(&file, "servr_name = 'a'\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let both = dir.path().join("other.toml");
    let both = both.to_str().expect("UTF-8");
    for arguments in [
        &["--config", file, "config", "check"][..],
        &["config", "--config", file, "check"],
        &["config", "check", "--config", file],
        &["-c", file, "audit"],
        &["audit", "-c", file],
        &["serve", "--config", file],
        &["--config", file, "serve"],
        &["--config", file, "retention", "status", "--json"],
    ] {
        let output = run(arguments, &[("BINDERY_CONFIG", both)]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains(&format!("{file}, line 1: servr_name")), "{arguments:?}: {said}");
    }
}

#[test]
fn a_command_that_finds_no_database_says_which_file_it_read() {
    let output = run(&["audit"], &[("BINDERY_DATA_DIR", "/nowhere")]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("there is no database in /nowhere, and no configuration file was read"), "{said}");
    assert!(said.contains("name yours with --config or BINDERY_CONFIG"), "{said}");
}
