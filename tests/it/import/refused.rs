//! Files that are not imported, each with what the operator should do.

use std::{fs, path::Path, sync::Arc};

use bindery::{
    domain::ids::{Token, UserId},
    import::{ImportError, Source},
    ops::import::Outcome,
};

use super::{import, import_into, new_store, now, settings};
use crate::support::sydent::Sydent;

fn open(sydent: &Sydent, database: &Path) -> String {
    let opened = Source::open(&settings(), &sydent.config(), Some(database), Arc::new(|_| {}));
    opened.err().map_or_else(|| "it was opened".to_owned(), |error: ImportError| error.to_string())
}

#[test]
fn a_file_that_is_not_sydents_database_is_named_with_what_is_wrong() {
    let sydent = Sydent::new(now());
    let file = |name: &str, bytes: &[u8]| {
        let path = sydent.path().join(name);
        fs::write(&path, bytes).expect("written");
        path
    };
    let other = sydent.path().join("other.db");
    let connection = rusqlite::Connection::open(&other).expect("a database");
    connection.execute_batch("CREATE TABLE people (name TEXT); PRAGMA user_version = 5").expect("SQL");
    for (path, expected) in [
        (sydent.path().join("nothing.db"), "No such file"),
        (sydent.path().to_owned(), "it is not a file"),
        (file("empty.db", b""), "it is empty"),
        (file("text.db", &b"server.name = id.test\n".repeat(100)), "it is not an SQLite database"),
        (other, "it has no table local_threepid_associations"),
    ] {
        let said = open(&sydent, &path);
        assert!(said.contains(expected) && said.contains(path.to_str().expect("UTF-8")), "{said}");
    }
}

#[test]
fn another_schema_is_refused_with_the_version_that_mends_it() {
    for schema in [0, 4, 6, -1] {
        let sydent = Sydent::new(now());
        sydent.rows.pragma_update(None, "user_version", schema).expect("SQL");
        let said = open(&sydent, &sydent.database());
        assert!(
            said.contains(&format!("has schema {schema} of Sydent")) && said.contains("Sydent 2.6.1"),
            "{said}"
        );
    }
    for (table, said_to_be_missing) in
        [("tokens", "no such table: tokens"), ("hashing_metadata", "no such table: hashing_metadata")]
    {
        let sydent = Sydent::new(now());
        sydent.rows.execute_batch(&format!("DROP TABLE {table}")).expect("SQL");
        let said = open(&sydent, &sydent.database());
        assert!(said.contains(said_to_be_missing) && said.contains("is not a database of Sydent"), "{said}");
    }
}

#[test]
fn a_database_in_use_is_refused_with_how_to_copy_it() {
    let sydent = Sydent::new(now());
    sydent.rows.execute_batch("BEGIN EXCLUSIVE").expect("SQL");
    let said = open(&sydent, &sydent.database());
    assert!(
        said.contains("is locked") && said.contains("stop Sydent first") && said.contains(".backup"),
        "{said}"
    );
    sydent.rows.execute_batch("COMMIT").expect("SQL");
    assert_eq!(open(&sydent, &sydent.database()), "it was opened");
}

#[test]
fn a_database_with_a_write_ahead_log_is_read_with_it() {
    let sydent = Sydent::new(now());
    sydent.rows.pragma_update(None, "journal_mode", "wal").expect("SQL");
    sydent.publish("carol@example.org", "@carol:hs.test", sydent.now.0);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (_, report) = runtime.block_on(import(&sydent));
    assert_eq!(report.local, 1, "the row is in the log only");
}

#[test]
fn a_damaged_database_is_refused_and_nothing_of_it_is_kept() {
    let sydent = Sydent::new(now());
    for number in 0..300 {
        sydent.publish(&format!("person{number}@example.org"), "@bob:hs.test", sydent.now.0);
    }
    let whole = fs::read(sydent.database()).expect("readable");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut refused = 0;
    for page in 1..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..page * 4096 + 64].fill(0x5a);
        let path = sydent.path().join("damaged.db");
        fs::write(&path, &damaged).expect("written");
        let said = open(&sydent, &path);
        refused += usize::from(said.contains("is damaged") && said.contains("integrity_check"));
        assert!(said.contains("is damaged") || said == "it was opened", "page {page}: {said}");
    }
    assert!(refused > whole.len() / 4096 / 2, "{refused} of {} pages", whole.len() / 4096);
    fs::write(sydent.database(), &whole[..whole.len() / 2]).expect("written");
    let store = new_store();
    let error = runtime.block_on(import_into(&store, &sydent)).expect_err("half a file");
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(!store.read().has_served().expect("readable"));
}

#[test]
fn a_configuration_that_lacks_something_is_named_with_what_it_lacks() {
    let sydent = Sydent::new(now());
    let good = fs::read_to_string(sydent.config()).expect("readable");
    let key = good.lines().find(|line| line.contains("signingkey")).expect("a key");
    for (text, expected) in [
        (good.replace("server.name = id.test\n", ""), "has no server.name in [general]"),
        (good.replace("id.test\n[crypto]", "\n[crypto]"), "has no server.name in [general]"),
        (good.replace(key, ""), "has no ed25519.signingkey in [crypto]"),
        (good.replace(key, "ed25519.signingkey ="), "has no ed25519.signingkey in [crypto]"),
        (good.replace("= ed25519 0", "= curve25519 0"), "another algorithm than ed25519"),
        (good.replace("= ed25519 0 ", "= ed25519 0  "), "a damaged ed25519.signingkey"),
        (good.replace("= ed25519 0 ", "= ed25519 0 x"), "a damaged ed25519.signingkey"),
        (good.replace("= ed25519 0 ", "= ed25519 a:b "), "a damaged ed25519.signingkey"),
        (good.replace("= ed25519 0 ", "= ed25519 "), "a damaged ed25519.signingkey"),
        (good.replace("[general]\n", ""), "line 1 is neither a section"),
        (String::new(), "has no server.name in [general]"),
    ] {
        sydent.configure(&text);
        let said = open(&sydent, &sydent.database());
        assert!(said.contains(expected) && said.contains("sydent.conf"), "{text}: {said}");
        assert!(!said.contains("KioqK"), "the key is not shown: {said}");
    }
    fs::write(sydent.config(), [0xff, 0xfe]).expect("written");
    assert!(open(&sydent, &sydent.database()).contains("is not valid UTF-8"));
    fs::remove_file(sydent.config()).expect("removed");
    assert!(open(&sydent, &sydent.database()).contains("No such file"));
}

#[test]
fn an_early_key_in_hexadecimal_digits_is_the_key_0() {
    let sydent = Sydent::new(now());
    let good = fs::read_to_string(sydent.config()).expect("readable");
    let (before, after) = good.split_once("= ed25519 0 ").expect("a key");
    let (_, after) = after.split_once('\n').expect("a line");
    sydent.configure(&format!("{before}= {}\n{after}", "2a".repeat(32)));
    let source = Source::open(&settings(), &sydent.config(), None, Arc::new(|_| {})).expect("good files");
    assert_eq!(source.settings().key_id, "ed25519:0");
    assert!(source.settings().seed.expose() == &[42; 32]);
}

#[tokio::test]
async fn a_database_that_was_used_is_not_imported_into() {
    let sydent = Sydent::new(now());
    let store = new_store();
    let token = Token::parse("token").expect("a token");
    let owner = UserId::parse("@a:b").expect("a user ID");
    store.write(move |tables| tables.put_token(&token, &owner, now())).await.expect("written");
    let keys = store.read().signing_keys().expect("readable");
    let error = import_into(&store, &sydent).await.expect_err("it was used");
    assert!(error.to_string().contains("has been used already"), "{error}");
    assert!(store.read().signing_keys().expect("readable") == keys);
}

#[tokio::test]
async fn a_second_import_of_other_data_is_refused() {
    let sydent = Sydent::new(now());
    let (store, _) = import(&sydent).await;
    let again = import_into(&store, &sydent).await.expect("the same data");
    assert!(matches!(again, Outcome::AlreadyImported(at) if at == sydent.now));
    sydent.publish("carol@example.org", "@carol:hs.test", sydent.now.0);
    let error = import_into(&store, &sydent).await.expect_err("other data");
    assert!(error.to_string().contains("does not merge two imports"), "{error}");
    assert_eq!(store.read().published().expect("readable"), 0);
}
