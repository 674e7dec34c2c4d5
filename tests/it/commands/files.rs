//! Files that the configuration or the system names and that cannot be used: what the commands say about them.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, process::Command};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::text;
use crate::support::program::as_stranger;

/// The status of unshare(1) if it may not make a namespace.
const CANNOT_UNSHARE: i32 = 1;
/// The status of the shell if it may not hide a file.
const CANNOT_HIDE: i32 = 97;
/// The status of the shell if the command failed, whose own status may be any other.
const COMMAND_FAILED: i32 = 98;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[test]
fn a_file_that_another_user_may_not_read_is_named_with_its_key_and_what_to_do() {
    if !geteuid().is_root() {
        println!("skipped: only root can run a program as another user");
        return;
    }
    let dir = TempDir::new().expect("a directory");
    set_mode(dir.path(), 0o755);
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret\n").expect("written");
    set_mode(&secret, 0o600);
    let templates = dir.path().join("templates");
    let template = templates.join("bindery/sms/en.txt");
    fs::create_dir_all(template.parent().expect("a folder")).expect("created");
    fs::write(&template, "{{ code }}").expect("written");
    set_mode(&template, 0o600);
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).expect("created");
    set_mode(&locked, 0o700);
    let smtp = [("BINDERY_MAIL__TRANSPORT", "smtp"), ("BINDERY_MAIL__SMTP__USERNAME", "u")];
    for (variable, file, key) in [
        ("BINDERY_CONFIG", &secret, ""),
        ("BINDERY_MAIL__SMTP__PASSWORD_FILE", &secret, "mail.smtp.password_file"),
        ("BINDERY_MAIL__SMTP__EXTRA_CA_FILE", &secret, "mail.smtp.extra_ca_file"),
        ("BINDERY_HOMESERVERS__EXTRA_CA_FILE", &secret, "homeservers.extra_ca_file"),
        ("BINDERY_MAIL__TEMPLATES_DIR", &locked, "mail.templates_dir"),
        ("BINDERY_MAIL__TEMPLATES_DIR", &template, "mail.templates_dir"),
    ] {
        let value = if *file == template { &templates } else { file };
        let mut command = as_stranger(&["config", "check"]);
        command.env(variable, value);
        if variable.starts_with("BINDERY_MAIL__SMTP") {
            command.envs(smtp);
        }
        if variable == "BINDERY_MAIL__SMTP__EXTRA_CA_FILE" {
            command.env("BINDERY_MAIL__SMTP__PASSWORD", "p");
        }
        let Ok(output) = command.output() else {
            println!("skipped: another user cannot run the program from this folder");
            return;
        };
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{variable}: {said}");
        let expected = format!("cannot use {}", file.display());
        assert!(said.contains(&expected) && said.contains(key), "{variable}: {said}");
        assert!(
            said.contains("Permission denied") && said.contains("give the user that runs bindery access"),
            "{said}"
        );
    }
}

#[test]
fn config_check_warns_if_there_is_no_name_server() {
    let line = format!(
        "mount --bind /dev/null /etc/resolv.conf || exit {CANNOT_HIDE}; \"$0\" config check || exit {COMMAND_FAILED}"
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &line, env!("CARGO_BIN_EXE_bindery")])
        .env("BINDERY_CONFIG", "")
        .output();
    let checked = match output {
        Ok(output) if output.status.success() => text(&output.stdout),
        Ok(output) if [Some(CANNOT_UNSHARE), Some(CANNOT_HIDE)].contains(&output.status.code()) => {
            println!("skipped: this user cannot hide /etc/resolv.conf: {}", text(&output.stderr));
            return;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("skipped: this system has no unshare(1)");
            return;
        }
        other => panic!("config check failed: {other:?}"),
    };
    let warning = "Warning: there is no name server, so this server finds no other server by its name";
    assert!(checked.contains(warning) && checked.contains("into /etc/resolv.conf."), "{checked}");
}
