//! Data directories that a command or the server must not touch, and what they say of them.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::PathBuf,
};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::{run, text};
use crate::support::{
    homeserver::Homeserver,
    program::{Program, STRANGER, as_stranger, config_file},
};

struct Place {
    dir: TempDir,
    config: PathBuf,
    _homeserver: Homeserver,
}

impl Place {
    /// A data directory that a server has used.
    fn used() -> Self {
        let (dir, homeserver) = (TempDir::new().expect("a directory"), Homeserver::start());
        let config = config_file(dir.path(), &homeserver);
        Program::start(&config).stop();
        Self { dir, config, _homeserver: homeserver }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    /// What a command says that must fail.
    fn refused(&self, arguments: &[&str]) -> String {
        let config = self.config.to_str().expect("UTF-8");
        let output = run(&[arguments, &["--config", config]].concat(), &[]);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        text(&output.stderr)
    }
}

#[test]
fn root_does_not_touch_what_belongs_to_another_user() {
    if !geteuid().is_root() {
        println!("skipped: only root can give a directory away");
        return;
    }
    let place = Place::used();
    for name in ["", "bindery.redb", "lock"] {
        chown(place.data(name), Some(STRANGER), Some(STRANGER)).expect("given away");
    }
    let before = fs::read(place.data("bindery.redb")).expect("readable");
    for arguments in [&["audit"][..], &["suppression", "lift", "--address", "a@example.org"], &["serve"]] {
        let said = place.refused(arguments);
        let expected = format!("belongs to the user #{STRANGER}, and this process runs as root");
        assert!(said.contains(&expected) && said.contains("sudo -u"), "{said}");
    }
    assert!(fs::read(place.data("bindery.redb")).expect("readable") == before);
    // A file that an earlier command of root has left is named.
    for name in ["", "lock"] {
        chown(place.data(name), Some(0), Some(0)).expect("taken back");
    }
    let said = place.refused(&["serve"]);
    assert!(said.contains("bindery.redb belongs to the user"), "{said}");
}

#[test]
fn another_user_is_told_whose_the_directory_is() {
    if !geteuid().is_root() {
        println!("skipped: only root can run a program as another user");
        return;
    }
    let place = Place::used();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).expect("set");
    for arguments in [&["audit"][..], &["serve"], &["config", "check"]] {
        let Ok(output) = as_stranger(arguments).arg("--config").arg(&place.config).output() else {
            println!("skipped: another user cannot run the program from this folder");
            return;
        };
        let said = text(&output.stdout) + &text(&output.stderr);
        let data = place.data("").display().to_string();
        let data = data.trim_end_matches('/');
        let expected = format!("{data} belongs to the user root, and this process runs as #{STRANGER}");
        assert!(said.contains(&expected) && said.contains("0700"), "{said}");
    }
}

#[test]
fn a_database_that_is_gone_is_not_replaced_by_new_keys() {
    let place = Place::used();
    fs::create_dir_all(place.data("logs")).expect("there");
    fs::write(place.data("logs").join("lookup-2026-01-01.jsonl"), "").expect("a log");
    for is_there in [false, true] {
        if is_there {
            fs::write(place.data("bindery.redb"), "").expect("an empty file");
        } else {
            fs::remove_file(place.data("bindery.redb")).expect("removed");
        }
        let said = place.refused(&["serve"]);
        assert!(said.contains("restore bindery.redb from a backup"), "{said}");
        assert!(said.contains("bindery serve --new"), "{said}");
        assert!(place.refused(&["audit"]).contains("there is no database in"));
    }
    let config = place.config.to_str().expect("UTF-8");
    Program::start_with(&["serve", "--new", "--config", config]).stop();
}
