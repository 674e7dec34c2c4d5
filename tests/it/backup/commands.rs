//! `bindery backup` and `bindery restore` as an operator types them, beside the running server and without one.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bindery::store::is_missing;
use rustix::process::geteuid;
use tempfile::TempDir;

use super::{back_up, fill, names, open, real_time};
use crate::support::{
    homeserver::Homeserver,
    program::{Program, STRANGER, config_file},
    storage::holds,
};

/// A data directory, a configuration, and a folder for backups beside it.
pub struct Place {
    pub dir: TempDir,
    pub config: PathBuf,
    _homeserver: Homeserver,
}

impl Place {
    pub fn new() -> Self {
        let (dir, homeserver) = (TempDir::new().expect("a directory"), Homeserver::start());
        let config = config_file(dir.path(), &homeserver);
        fs::create_dir(dir.path().join("backups")).expect("made");
        Self { dir, config, _homeserver: homeserver }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn backups(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    /// Adds a line to the configuration, before its first section.
    fn set(&self, line: &str) {
        let text = fs::read_to_string(&self.config).expect("readable");
        fs::write(&self.config, format!("{line}\n{text}")).expect("written");
    }

    /// The program, in the folder for backups.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
        command.args(arguments).current_dir(self.backups()).env("BINDERY_CONFIG", &self.config);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    /// What a command says that must succeed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = text(&output);
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// What a command says that must fail.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        said
    }
}

fn text(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).expect("UTF-8")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_backup_is_the_same_beside_the_server_and_without_it() {
    let place = Place::new();
    {
        fill(&open(&place.data()), 0..20, real_time()).await;
    }
    let backups = place.backups();
    place.set(&format!("backup.directory = '{}'", backups.display()));
    for is_running in [false, true] {
        let mut program = is_running.then(|| Program::start(&place.config));
        // A relative name is meant from where the command runs.
        let said = place.ok(&["backup", "mine.backup"]);
        let mine = backups.join("mine.backup");
        assert!(said.contains(&format!("The backup {} is written and checked", mine.display())), "{said}");
        assert!(said.contains("Published addresses in it: 20."), "{said}");
        assert_eq!(mode(&mine), 0o600);
        let said = place.ok(&["backup"]);
        let named = names(&backups).into_iter().find(|name| name.starts_with("bindery-")).expect("a backup");
        assert!(said.contains(&named), "{said}");
        let said = place.ok(&["backup", "verify", &named]);
        assert!(said.contains(&format!("{named} is whole.")) && said.contains("id.test"), "{said}");
        assert!(said.contains("published addresses") && said.contains("  20\n"), "{said}");
        fs::remove_file(backups.join(named)).expect("removed");

        fs::write(backups.join("letter.txt"), "to be kept").expect("written");
        let inside = place.data().join("one.backup");
        for (file, expected) in [
            ("letter.txt", "exists and is no backup of Bindery"),
            (".", "exists and is no backup of Bindery"),
            ("..", "names no file"),
            (inside.to_str().expect("UTF-8"), "is inside the data directory"),
            ("nowhere/one.backup", "cannot write the backup"),
            (backups.to_str().expect("UTF-8"), "exists and is no backup of Bindery"),
        ] {
            let said = place.refused(&["backup", file]);
            assert!(said.contains(expected), "{file} {is_running}: {said}");
        }
        assert_eq!(fs::read_to_string(backups.join("letter.txt")).expect("readable"), "to be kept");
        let said = place.refused(&["backup", "nowhere/one.backup"]);
        assert!(said.contains("nowhere/one.backup") && said.contains("ReadWritePaths="), "{said}");
        assert_eq!(names(&backups), ["letter.txt", "mine.backup"], "nothing is left half written");
        if let Some(program) = &mut program {
            let said = place.refused(&["restore", "mine.backup", "--replace"]);
            assert!(said.contains("a server runs on") && said.contains("stop it first"), "{said}");
            program.stop();
        }
    }
}

#[test]
fn a_backup_without_a_file_and_without_a_directory_says_what_to_write() {
    let place = Place::new();
    Program::start(&place.config).stop();
    let said = place.refused(&["backup"]);
    assert!(said.contains("name a file for the backup") && said.contains("backup.directory"), "{said}");
    let said = place.refused(&["backup", "verify", "missing"]);
    assert!(said.starts_with("bindery: cannot use missing"), "{said}");
}

#[test]
fn keep_days_and_the_day_before_stay_within_the_promise() {
    let place = Place::new();
    for (keep, deleted, expected) in [
        ("7", "30", None),
        ("29", "30", None),
        (
            "30",
            "30",
            Some(
                "backup.keep_days: 30 days in a backup and a day before that are longer than privacy.deleted_binding_days (30); set backup.keep_days to 29 or less; the policy says: what was removed is gone",
            ),
        ),
        ("7", "8", None),
        (
            "7",
            "7",
            Some(
                "set backup.keep_days to 6 or less, or privacy.deleted_binding_days to 8 or more; the policy says",
            ),
        ),
        (
            "7",
            "3",
            Some(
                "set backup.keep_days to 2 or less, or privacy.deleted_binding_days to 8 or more; the policy says",
            ),
        ),
        ("2", "3", None),
        ("0", "30", Some("backup.keep_days")),
    ] {
        let mut command = place.command(&["config", "check"]);
        command.env("BINDERY_BACKUP__KEEP_DAYS", keep).env("BINDERY_PRIVACY__DELETED_BINDING_DAYS", deleted);
        let output = command.output().expect("it runs");
        let said = text(&output);
        assert_eq!(output.status.code(), Some(if expected.is_some() { 78 } else { 0 }), "{said}");
        assert!(expected.is_none_or(|expected| said.contains(expected)), "{said}");
    }
    for (directory, expected) in [
        (place.data().join("backups").display().to_string(), "must be a directory outside data_dir"),
        ("backups".to_owned(), "must begin with a slash"),
    ] {
        let output = place.command(&["config", "check"]).env("BINDERY_BACKUP__DIRECTORY", directory).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(78));
        assert!(text(&output).contains(expected), "{}", text(&output));
    }
}

/// A place whose database has twenty people, and the path of a backup of it.
async fn backed_up() -> (Place, PathBuf) {
    let place = Place::new();
    let store = open(&place.data());
    fill(&store, 0..20, real_time()).await;
    let backup = place.backups().join("one.backup");
    back_up(&store, &backup, real_time()).await;
    drop(store);
    (place, backup)
}

#[tokio::test]
async fn a_restore_replaces_a_database_only_if_told_and_keeps_it() {
    let (place, _) = backed_up().await;
    {
        fill(&open(&place.data()), 20..30, real_time()).await;
    }
    let before = fs::read(place.data().join("bindery.redb")).expect("readable");
    let said = place.refused(&["restore", "one.backup"]);
    assert!(said.contains("there is a database in") && said.contains("bindery restore --replace"), "{said}");
    assert!(fs::read(place.data().join("bindery.redb")).expect("readable") == before);

    let said = place.ok(&["restore", "--replace", "one.backup"]);
    assert!(said.contains("is restored in") && said.contains("Now start the server."), "{said}");
    assert!(!said.contains("Warning"), "the replaced database told all that it knew: {said}");
    let kept = names(&place.data()).into_iter().find(|name| name.contains("before-restore")).expect("kept");
    assert!(said.contains(&kept) && said.contains("for 7 days at most"), "{said}");
    assert!(fs::read(place.data().join(kept)).expect("readable") == before);
    assert_eq!((mode(&place.data()), mode(&place.data().join("bindery.redb"))), (0o700, 0o600));
    let store = open(&place.data());
    assert!(holds(&store, 19) && !holds(&store, 20));
    drop(store);
    // The whole server, by its own start, with the data directory lost.
    fs::remove_dir_all(place.data()).expect("removed");
    let said = place.ok(&["restore", "one.backup"]);
    assert!(said.contains("Warning: Bindery cannot know what people removed"), "{said}");
    assert_eq!((mode(&place.data()), mode(&place.data().join("bindery.redb"))), (0o700, 0o600));
    Program::start(&place.config).stop();
}

#[tokio::test]
async fn a_replaced_database_that_tells_of_no_removal_is_said_to() {
    let (place, _) = backed_up().await;
    fs::remove_dir_all(place.data()).expect("removed");
    // Begun anew, with other keys.
    drop(open(&place.data()));
    let said = place.ok(&["restore", "--replace", "one.backup"]);
    assert!(said.contains("is another database, with other keys") && said.contains("cannot know"), "{said}");
    for bytes in [vec![0x5a; 20_000], b"redb".to_vec()] {
        fs::write(place.data().join("bindery.redb"), bytes).expect("written");
        let said = place.ok(&["restore", "--replace", "one.backup"]);
        assert!(said.contains("bindery.redb can be read") && said.contains("cannot know"), "{said}");
        assert!(holds(&open(&place.data()), 19));
    }
    // An old data directory elsewhere.
    let elsewhere = place.dir.path().join("elsewhere");
    fs::rename(place.data(), &elsewhere).expect("moved");
    let elsewhere = elsewhere.to_str().expect("UTF-8");
    let said = place.ok(&["restore", "one.backup", "--erasures-from", elsewhere]);
    assert!(!said.contains("Warning") && !said.contains("is kept as"), "{said}");
    let said = place.refused(&["restore", "--replace", "one.backup", "--erasures-from", "/nowhere"]);
    assert!(said.contains("cannot use /nowhere"), "{said}");
}

#[tokio::test]
async fn a_backup_that_must_not_come_back_is_refused_and_the_database_stays() {
    const DAY: u64 = 24 * 3_600_000;
    let (place, _) = backed_up().await;
    let store = open(&place.data());
    let now = real_time();
    for (name, made) in [
        ("old.backup", now.0 - 30 * DAY - 1),
        ("young.backup", now.0 - 30 * DAY + 3_600_000),
        ("future.backup", now.0 + DAY),
    ] {
        back_up(&store, &place.backups().join(name), bindery::domain::time::Millis(made)).await;
    }
    drop(store);
    let before = fs::read(place.data().join("bindery.redb")).expect("readable");
    for (name, expected) in [
        ("old.backup", "more than 30 days ago: data that people have removed since would come back"),
        ("future.backup", "which is in the future: set the clock"),
        ("missing.backup", "missing.backup"),
        (".", "is no backup of Bindery"),
    ] {
        let said = place.refused(&["restore", "--replace", name]);
        assert!(said.contains(expected), "{name}: {said}");
    }
    let mut other = place.command(&["restore", "--replace", "one.backup"]);
    other.env("BINDERY_SERVER_NAME", "id2.test").env("BINDERY_PUBLIC_BASE_URL", "https://id2.test");
    let said = text(&other.output().expect("it runs"));
    assert!(said.contains("the backup is of id.test, and server_name is id2.test"), "{said}");
    assert!(fs::read(place.data().join("bindery.redb")).expect("readable") == before);
    assert!(!place.data().join("bindery.redb.new").exists() && !is_missing(&place.data()));
    place.ok(&["restore", "--replace", "young.backup"]);
}

#[tokio::test]
async fn root_restores_for_the_owner_of_the_directory() {
    if !geteuid().is_root() {
        println!("skipped: only root can give a directory away");
        return;
    }
    let (place, backup) = backed_up().await;
    for name in ["", "bindery.redb", "lock"] {
        chown(place.data().join(name), Some(STRANGER), Some(STRANGER)).expect("given away");
    }
    // Root may not make one without the server, or the server could not open what root leaves.
    assert!(place.refused(&["backup", "two.backup"]).contains("belongs to the user"));
    place.ok(&["restore", "--replace", "one.backup"]);
    for name in names(&place.data()) {
        let file = fs::metadata(place.data().join(&name)).expect("there");
        assert_eq!((file.uid(), file.gid()), (STRANGER, STRANGER), "{name}");
    }
    fs::remove_dir_all(place.data()).expect("removed");
    fs::create_dir(place.data()).expect("made");
    chown(place.data(), Some(STRANGER), Some(STRANGER)).expect("given away");
    place.ok(&["restore", backup.to_str().expect("UTF-8")]);
    for name in names(&place.data()) {
        assert_eq!(fs::metadata(place.data().join(&name)).expect("there").uid(), STRANGER, "{name}");
    }
    assert_eq!(mode(&place.data()), 0o700);
}
