//! Files that the configuration or the system names and that cannot be used: what the commands say about them.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::text;

/// A user that no system has.
const STRANGER: u32 = 54_321;

/// The status with which the shell says that it cannot hide a file.
const CANNOT_HIDE: i32 = 97;

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
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
        command.args(["config", "check"]).env(variable, value).uid(STRANGER).gid(STRANGER);
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
        assert!(said.contains("Permission denied") && said.contains("let the user that runs"), "{said}");
    }
}

#[test]
fn config_check_warns_as_the_server_does_if_there_is_no_name_server() {
    let hidden = |arguments: &str| {
        let line = format!(
            "mount --bind /dev/null /etc/resolv.conf 2>/dev/null || exit {CANNOT_HIDE}; exec \"$0\" {arguments}"
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &line, env!("CARGO_BIN_EXE_bindery")]);
        command.output()
    };
    let checked = match hidden("config check") {
        Ok(output) if output.status.success() => text(&output.stdout),
        other => {
            println!("skipped: this user cannot hide /etc/resolv.conf: {other:?}");
            return;
        }
    };
    let warning = "Warning: there is no name server, so this server finds no homeserver by its name";
    assert!(checked.contains(warning) && checked.contains("into /etc/resolv.conf."), "{checked}");
}
