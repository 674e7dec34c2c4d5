//! `docs/data.md` must name every table and column that exists, and no other.

use std::{collections::BTreeSet, path::Path};

use bindery::{
    domain::{server_name::ServerName, time::Millis},
    ops::genesis,
    store::{DATABASE_FILE, Store},
};
use redb::{Database, ReadableDatabase, TableHandle};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/data.md");
    std::fs::read_to_string(path).expect("the document")
}

/// The rows of the table of tables: name, and the cells after it.
fn rows(document: &str) -> Vec<(String, Vec<String>)> {
    let (_, tables) = document.split_once("\n## Tables\n").expect("the tables");
    let (tables, _) = tables.split_once("\n## ").expect("something after them");
    let rows = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|line| {
        let mut cells = line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let name = cells.next().expect("a name").trim_end_matches('`').to_owned();
        (name, cells.collect())
    })
    .collect()
}

#[test]
fn every_table_is_named_with_its_reason_and_its_time() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let name = ServerName::parse("id.test").expect("a name");
    drop(Store::open(dir.path(), 1 << 20, &name, || genesis(Millis(1))).expect("a database"));
    let database = Database::open(dir.path().join(DATABASE_FILE)).expect("a database");
    let transaction = database.begin_read().expect("a transaction");
    let tables = transaction.list_tables().expect("tables");
    let there: BTreeSet<String> = tables.map(|table| table.name().replace("lookup_1", "lookup_N")).collect();
    let rows = rows(&document());
    let named: BTreeSet<String> = rows.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(named, there);
    for (name, cells) in rows {
        let [key, _, why, how_long, ..] = &cells[..] else { panic!("{name} has too few cells") };
        assert!(!key.is_empty() && !why.is_empty() && !how_long.is_empty(), "{name}: {cells:?}");
    }
}

/// The sources of a folder, one after the other.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        text +=
            &if path.is_dir() { sources(&path) } else { std::fs::read_to_string(&path).expect("a source") };
    }
    text
}

/// The columns of a row type, read from its source.
fn columns(source: &str, row: &str) -> Vec<String> {
    let at = source.find(&format!("struct {row}")).unwrap_or_else(|| panic!("{row} is not there"));
    let body = &source[at + source[at..].find('{').expect("a body")..];
    let body = &body[..body.find("\n}").expect("an end")];
    let fields = body.lines().filter_map(|line| line.trim().split_once(": "));
    let fields = fields.map(|(name, _)| name.trim_start_matches("pub(super) ").trim_start_matches("pub "));
    fields.filter(|name| !name.starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn every_column_is_named() {
    let source = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"));
    let document = document();
    for (table, row) in [
        ("associations", "AssociationRow"),
        ("tokens", "TokenRow"),
        ("consents", "ConsentRow"),
        ("sessions", "SessionRow"),
        ("invitations", "InvitationRow"),
        ("outbox", "OutboxRow"),
        ("peppers", "PepperRow"),
        ("signing_keys", "SigningKeyRow"),
        ("visits", "VisitRow"),
        ("notices", "NoticeRow"),
    ] {
        let (_, cells) = rows(&document).into_iter().find(|(name, _)| name == table).expect("a row");
        let columns = columns(&source, row);
        assert!(columns.len() >= 2, "{row}: {columns:?}");
        for column in columns {
            assert!(cells[1].contains(&format!("`{column}`")), "{table}.{column} is not in docs/data.md");
        }
    }
}
