//! `bindery backup verify`: it finds every change of a byte, refuses what is no backup, and changes nothing.

use std::fs;

use bindery::{
    domain::time::Millis,
    store::{
        DATABASE_FILE, SCHEMA,
        backup::{BackupError, Contents, restore::Restoring, verify},
    },
};
use redb::{Database, ReadableDatabase, TableDefinition};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{back_up, backup_in, fill, names, open, real_time, restore_into};

const CHECKSUM: usize = 32;
const TRAILER: usize = 64;
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// The bytes of a backup with many rows.
async fn bytes(dir: &TempDir) -> (Vec<u8>, Contents) {
    let store = open(&dir.path().join("data"));
    fill(&store, 0..300, Millis(1)).await;
    let contents = back_up(&store, &backup_in(dir), real_time()).await;
    (fs::read(backup_in(dir)).expect("readable"), contents)
}

/// Places all over a file, the same in each run.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..100_u64).map(move |number| {
        let hash = Sha256::digest(number.to_be_bytes());
        u64::from_be_bytes(hash[..8].try_into().expect("eight")) as usize % len
    })
}

/// Gives the file the checksum of its bytes, as somebody may who wants to harm.
fn sign(bytes: &mut [u8]) {
    let end = bytes.len() - CHECKSUM;
    let (rest, checksum) = bytes.split_at_mut(end);
    checksum.copy_from_slice(&Sha256::digest(rest));
}

#[tokio::test]
async fn each_of_100_single_byte_corruptions_is_found() {
    let dir = TempDir::new().expect("a directory");
    let (whole, contents) = bytes(&dir).await;
    let path = backup_in(&dir);
    for place in places(whole.len()) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&path, &damaged).expect("written");
        let error = verify(&path).expect_err("it is found");
        assert!(
            matches!(error, BackupError::Damaged { .. } | BackupError::NotABackup(_)),
            "{place}: {error}"
        );
        assert!(fs::read(&path).expect("readable") == damaged, "the file is never changed");
    }
    fs::write(&path, &whole).expect("written");
    assert_eq!(verify(&path).expect("whole"), contents);
    assert!(fs::read(&path).expect("readable") == whole);
    assert_eq!(names(dir.path()), ["data", "one.backup"], "nothing is left beside it");
}

#[tokio::test]
async fn a_corruption_with_a_right_checksum_is_found_or_changes_nothing_and_never_panics() {
    let dir = TempDir::new().expect("a directory");
    let (whole, contents) = bytes(&dir).await;
    let path = backup_in(&dir);
    let mut found = 0;
    for place in places(whole.len() - TRAILER) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        sign(&mut damaged);
        fs::write(&path, &damaged).expect("written");
        match verify(&path) {
            Ok(read) => assert_eq!(read, contents, "{place}"),
            Err(_) => found += 1,
        }
    }
    assert!(found > 0);
}

#[tokio::test]
async fn what_is_no_whole_backup_is_refused_and_says_what_to_do() {
    let dir = TempDir::new().expect("a directory");
    let (whole, _) = bytes(&dir).await;
    let path = dir.path().join("file");
    let live = fs::read(dir.path().join("data").join(DATABASE_FILE)).expect("readable");
    let mut only_trailer = whole[whole.len() - TRAILER..].to_vec();
    sign(&mut only_trailer);
    let mut garbage = vec![0x5a; 10_000];
    garbage.extend_from_slice(&whole[whole.len() - TRAILER..]);
    sign(&mut garbage);
    for (what, bytes, expected) in [
        ("empty", Vec::new(), "is no backup of Bindery"),
        ("a few bytes", b"Bindery backup".to_vec(), "is no backup of Bindery"),
        ("garbage", vec![0xa5; 100_000], "is no backup of Bindery"),
        ("a plain live database", live, "is no backup of Bindery"),
        ("truncated by a byte", whole[..whole.len() - 1].to_vec(), "is no backup of Bindery"),
        ("truncated by half", whole[..whole.len() / 2].to_vec(), "is no backup of Bindery"),
        ("without its start", whole[1..].to_vec(), "is damaged"),
        ("a trailer without a database", only_trailer, "is no backup of Bindery"),
        ("garbage with a trailer", garbage, "is damaged"),
    ] {
        fs::write(&path, bytes).expect("written");
        let error = verify(&path).expect_err(what).to_string();
        assert!(error.contains(expected) && error.contains(path.to_str().expect("UTF-8")), "{what}: {error}");
        let restored = TempDir::new().expect("a directory");
        let restoring = Restoring::begin(&restored.path().join("data")).expect("free");
        assert!(restoring.copy(&path).is_err(), "{what}: nor is it restored");
    }
    assert!(verify(dir.path()).expect_err("a directory").to_string().contains("is no backup"));
    let missing = verify(&dir.path().join("missing")).expect_err("missing").to_string();
    assert!(missing.contains("missing") && missing.starts_with("cannot use"), "{missing}");
}

/// A backup whose database has another schema.
fn with_schema(database: &[u8], schema: u32, made: Millis, dir: &TempDir) -> std::path::PathBuf {
    let path = dir.path().join(format!("schema-{schema}.backup"));
    fs::write(&path, database).expect("written");
    let database = Database::open(&path).expect("a database");
    let write = database.begin_write().expect("a transaction");
    {
        let mut meta = write.open_table(META).expect("a table");
        // As `store::codec` writes it: a format byte, and numbers of fixed length.
        let number = [&[1][..], &schema.to_le_bytes()].concat();
        meta.insert("schema", number.as_slice()).expect("inserted");
        let row = [&[1][..], &made.0.to_le_bytes(), &0_u64.to_le_bytes()].concat();
        meta.insert("backup", row.as_slice()).expect("inserted");
    }
    write.commit().expect("committed");
    drop(database);
    let mut bytes = fs::read(&path).expect("readable");
    bytes.extend_from_slice(b"Bindery backup, format 1");
    bytes.extend_from_slice(&made.0.to_be_bytes());
    bytes.extend_from_slice(&[0; CHECKSUM]);
    sign(&mut bytes);
    fs::write(&path, bytes).expect("written");
    path
}

#[tokio::test]
async fn a_backup_of_an_earlier_schema_is_migrated_and_one_of_a_later_schema_refused() {
    let dir = TempDir::new().expect("a directory");
    let now = real_time();
    for schema in 1..SCHEMA {
        let old = format!("{}/tests/data/databases/schema-{schema}.redb", env!("CARGO_MANIFEST_DIR"));
        let backup = with_schema(&fs::read(old).expect("readable"), schema, now, &dir);
        let contents = verify(&backup).expect("whole");
        assert_eq!((contents.schema, contents.rows), (schema, None));
        let data = dir.path().join(format!("restored-{schema}"));
        restore_into(&data, &backup, &[], now).await;
        assert!(open(&data).read().published().expect("readable") > 0);
        let database = Database::open(data.join(DATABASE_FILE)).expect("a database");
        let meta = database.begin_read().expect("a transaction").open_table(META).expect("a table");
        assert!(meta.get("backup").expect("readable").is_none(), "it is a database again");
    }
    let current = open(&dir.path().join("data"));
    fill(&current, 0..3, Millis(1)).await;
    drop(current);
    let bytes = fs::read(dir.path().join("data").join(DATABASE_FILE)).expect("readable");
    let error = verify(&with_schema(&bytes, SCHEMA + 1, now, &dir)).expect_err("newer").to_string();
    assert!(error.contains(&format!("has schema {}", SCHEMA + 1)) && error.contains("later one"), "{error}");
    let with_rows = with_schema(&bytes, SCHEMA, now, &dir);
    assert!(verify(&with_rows).is_ok(), "a database without rows that backups leave out is as a backup");
}
