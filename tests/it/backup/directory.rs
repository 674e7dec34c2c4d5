//! `backup.directory`: old backups go by retention, other files stay, and a backup that is overdue is noticed. Also
//! which tables a backup carries.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use bindery::{
    domain::{clock::Clock, time::Millis},
    ops::backup::{is_overdue, last_success, make},
};
use serde_json::json;
use tempfile::TempDir;

use super::names;
use crate::support::{Server, TestClock, at_least_one, core::core_with};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn retention_removes_old_backups_and_leaves_every_other_file() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start_with(|config| {
        config.backup.directory = Some(dir.path().to_owned());
        config.backup.keep_days = at_least_one(3);
    });
    let server = server.await;
    let backup = async || server.control("/backup", &json!({ "file": null })).await;
    backup().await;
    let first = names(dir.path()).pop().expect("a backup");
    let bytes = fs::read(dir.path().join(&first)).expect("readable");
    let foreign = [
        "bindery-20200101T000000Z.backup",
        "bindery-20200101T000000Z.backup.gpg",
        "bindery-old.backup",
        "letter.txt",
        "my-bindery-20200101T000000Z.backup",
    ];
    for name in foreign {
        // Only the first has the name of a backup, and it is none.
        let content = if name == foreign[0] { b"a letter".to_vec() } else { bytes.clone() };
        fs::write(dir.path().join(name), content).expect("written");
    }
    let half = dir.path().join("bindery-20200101T000001Z.backup.new");
    let write_half = |at: Millis| {
        fs::write(&half, "half").expect("written");
        let at = UNIX_EPOCH + Duration::from_millis(at.0);
        fs::File::options().append(true).open(&half).and_then(|file| file.set_modified(at)).expect("dated");
    };
    write_half(server.clock.now());
    server.pass(DAY * 2).await;
    assert!(!half.exists(), "what a crash left goes after a day");
    assert!(dir.path().join(&first).exists(), "not before its time");
    write_half(server.clock.now());
    backup().await;
    server.pass(DAY + Duration::from_secs(1200)).await;
    assert!(!dir.path().join(&first).exists(), "after three days");
    let left = names(dir.path());
    assert_eq!(left.len(), foreign.len() + 1, "{left:?}");
    assert!(foreign.iter().all(|name| left.iter().any(|other| other == name)), "{left:?}");
    let status = server.control("/retention/status", &json!(null)).await;
    let rules = status["rules"].as_array().expect("rules");
    let rule = rules.iter().find(|rule| rule["what"] == "backups in backup.directory").expect("a rule");
    assert_eq!((&rule["rows"], &rule["rule"]), (&json!(1), &json!("3 days")), "{rule}");
}

#[tokio::test]
async fn a_backup_is_overdue_after_two_days() {
    let dir = TempDir::new().expect("a directory");
    for is_set in [true, false] {
        let (store, clock) = (super::open(&dir.path().join("data")), TestClock::new());
        let core = core_with(store, clock.clone(), |config| {
            config.data_dir = dir.path().join("data");
            config.backup.directory = is_set.then(|| dir.path().to_owned());
        });
        let core = core.await;
        let file = dir.path().join("one.backup");
        make(&core, Some(file)).await.expect("a backup");
        assert_eq!(last_success(&core).expect("readable"), Some(clock.now()));
        clock.forward(DAY * 2 - Duration::from_secs(1));
        assert!(!is_overdue(&core, clock.now()).expect("readable"));
        clock.forward(Duration::from_secs(1));
        assert_eq!(is_overdue(&core, clock.now()).expect("readable"), is_set);
    }
}

/// For each table of `src/store/tables.rs`, whether backups carry it.
fn decisions() -> BTreeMap<String, bool> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tables.rs");
    let source = fs::read_to_string(source).expect("the source");
    let definitions = source.split("Definition::new(").skip(1);
    let definitions = definitions.map(|definition| {
        let (arguments, _) = definition.split_once(");").expect("an end");
        let name = arguments.split('"').nth(1).expect("a name").to_owned();
        (name, arguments.contains("InBackup::Yes"))
    });
    definitions.collect()
}

#[test]
fn the_document_says_of_every_table_whether_backups_carry_it() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup.md");
    let document = fs::read_to_string(document).expect("the document");
    let (_, rows) = document.split_once("\n## What is in it, and what is not\n").expect("a section");
    let (rows, _) = rows.split_once("\n## ").expect("something after it");
    let mut said = BTreeMap::new();
    for line in rows.lines().filter(|line| line.starts_with("| ")) {
        let is_in = line.ends_with("| yes |");
        if is_in || line.ends_with("| no |") {
            let tables = line.split('|').nth(2).expect("a cell").split('`').skip(1).step_by(2);
            said.extend(tables.map(|table| (table.to_owned(), is_in)));
        }
    }
    // Its name has the number of a pepper.
    assert_eq!(said.remove("lookup_N"), Some(true));
    assert_eq!(said, decisions());
}
