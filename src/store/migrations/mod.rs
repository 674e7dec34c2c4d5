//! Brings a database up to date when it is opened: fills a new one, migrates an old one, refuses a newer or
//! foreign one.
//!
//! Migrations are an ordered list. Each runs in one transaction with its new schema number, so a crash leaves
//! either the old schema or the new one. The old file is copied first.

pub mod copies;
mod schema_2;
mod schema_3;
mod schema_4;

use std::{
    fs::{self, File},
    path::Path,
};

use redb::{Database, ReadableTable, WriteTransaction};

use super::{
    Genesis, OpenError, StoreError,
    codec::{decode, encode},
    lookup_index::PepperRow,
    progress,
    rewrite::sync_directory,
    rows::signing_key::SigningKeyRow,
    tables::{META, PEPPERS, SIGNING_KEYS},
    writes::Writes,
};
use crate::domain::{lookup::PepperState, server_name::ServerName, signing::FIRST_KEY_ID, time::Millis};

/// A migration from one schema to the next. It gets the current time.
pub type Migration = fn(&WriteTransaction, Millis) -> Result<(), StoreError>;

/// The migrations from schema 1 on, in order: the first leads to schema 2.
pub const ALL: &[Migration] = &[schema_2::migrate, schema_3::migrate, schema_4::migrate];

/// The schema of the oldest databases.
const FIRST_SCHEMA: u32 = 1;

/// The schema that this program writes.
pub const SCHEMA: u32 = FIRST_SCHEMA + ALL.len() as u32;

/// Brings `database` to the newest schema. `path` is its file, which is copied before a migration.
pub fn bring_up_to_date(
    database: &Database,
    path: Option<&Path>,
    migrations: &[Migration],
    name: &ServerName,
    genesis: impl FnOnce() -> Genesis,
) -> Result<(), OpenError> {
    let newest = FIRST_SCHEMA + migrations.len() as u32;
    let transaction = database.begin_write()?;
    let Some((schema, stored)) = identity(&transaction)? else {
        fill(&transaction, newest, name, genesis())?;
        return Ok(transaction.commit()?);
    };
    if stored != name.as_str() {
        return Err(OpenError::OtherServerName { stored, configured: name.to_string() });
    }
    if schema > newest || schema < FIRST_SCHEMA {
        return Err(OpenError::NewerSchema(schema, newest));
    }
    transaction.abort()?;
    if let Some(path) = path.filter(|_| schema < newest) {
        let copy = path.with_extension(format!("redb.schema-{schema}"));
        // Nothing writes to the file between the abort above and the first migration below. Sync the copy
        // before that, otherwise a power cut could damage both.
        let copied = fs::copy(path, &copy).and_then(|_| File::open(&copy)?.sync_all());
        copied.map_err(OpenError::at(&copy))?;
        sync_directory(path)?;
        progress::step();
    }
    if schema == newest {
        return Ok(());
    }
    let now = genesis().now;
    for version in schema..newest {
        let transaction = database.begin_write()?;
        migrations[(version - FIRST_SCHEMA) as usize](&transaction, now)?;
        if version + 1 == newest {
            open_all(&transaction)?;
        }
        put_meta(&transaction, "schema", &(version + 1))?;
        transaction.commit()?;
        progress::step();
        tracing::info!(schema = version + 1, "the database was migrated");
    }
    Ok(())
}

/// Refuses a database that [`bring_up_to_date`] would fill, migrate or refuse.
pub fn require_current(database: &Database, name: &ServerName) -> Result<(), OpenError> {
    let transaction = database.begin_write()?;
    let identity = identity(&transaction)?;
    transaction.abort()?;
    match identity {
        None => Err(StoreError::Inconsistent("the database is empty").into()),
        Some((_, stored)) if stored != name.as_str() => {
            Err(OpenError::OtherServerName { stored, configured: name.to_string() })
        }
        Some((SCHEMA, _)) => Ok(()),
        Some((newer @ SCHEMA.., _)) => Err(OpenError::NewerSchema(newer, SCHEMA)),
        Some((older, _)) => Err(OpenError::OlderSchema(older, SCHEMA)),
    }
}

/// The schema and server name of a database; `None` if it is new.
fn identity(transaction: &WriteTransaction) -> Result<Option<(u32, String)>, StoreError> {
    let meta = transaction.open_table(META.redb())?;
    let schema = meta.get("schema")?.map(|row| decode(row.value())).transpose()?;
    let name = meta.get("server_name")?.map(|row| decode(row.value())).transpose()?;
    match (schema, name) {
        (None, None) => Ok(None),
        (Some(schema), Some(name)) => Ok(Some((schema, name))),
        _ => Err(StoreError::Inconsistent("the table meta lacks the schema or the server name")),
    }
}

fn fill(
    transaction: &WriteTransaction,
    schema: u32,
    name: &ServerName,
    genesis: Genesis,
) -> Result<(), StoreError> {
    let created = genesis.now;
    put_meta(transaction, "schema", &schema)?;
    put_meta(transaction, "server_name", &name.as_str())?;
    put_meta(transaction, "session_key", &genesis.session_key)?;
    let mut keys = transaction.open_table(SIGNING_KEYS.redb())?;
    let key = encode(&SigningKeyRow { seed: genesis.signing_seed, created })?;
    keys.insert(FIRST_KEY_ID, key.as_slice())?;
    drop(keys);
    let mut peppers = transaction.open_table(PEPPERS.redb())?;
    let pepper = encode(&PepperRow { text: genesis.pepper, created, state: PepperState::Current })?;
    peppers.insert(1, pepper.as_slice())?;
    drop(peppers);
    open_all(transaction)
}

/// Creates missing tables, so that a snapshot can always open them.
fn open_all(transaction: &WriteTransaction) -> Result<(), StoreError> {
    Writes::open(transaction).map(drop)
}

fn put_meta(
    transaction: &WriteTransaction,
    key: &str,
    value: &impl serde::Serialize,
) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META.redb())?;
    meta.insert(key, encode(value)?.as_slice())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, TableDefinition, backends::InMemoryBackend};

    use super::*;
    use crate::domain::secret::Key32;

    const ADDED: TableDefinition<u8, u8> = TableDefinition::new("added");

    fn genesis() -> Genesis {
        let key = || Key32::new([1; 32]);
        Genesis { signing_seed: key(), pepper: "pepper".to_owned(), session_key: key(), now: Millis(1) }
    }

    fn name() -> ServerName {
        ServerName::parse("id.test").expect("a name")
    }

    fn add(transaction: &WriteTransaction, _: Millis) -> Result<(), StoreError> {
        let mut table = transaction.open_table(ADDED)?;
        table.insert(1, 1)?;
        Ok(())
    }

    fn fail(transaction: &WriteTransaction, now: Millis) -> Result<(), StoreError> {
        add(transaction, now)?;
        Err(StoreError::Inconsistent("this one fails"))
    }

    fn schema(database: &Database) -> u32 {
        let transaction = database.begin_write().expect("a transaction");
        identity(&transaction).expect("readable").expect("it is not new").0
    }

    #[test]
    fn each_runs_once_in_order_after_a_copy_was_made() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("bindery.redb");
        let database = Database::create(&path).expect("a database");
        bring_up_to_date(&database, Some(&path), &[], &name(), genesis).expect("filled");
        bring_up_to_date(&database, Some(&path), &[add], &name(), genesis).expect("migrated");
        bring_up_to_date(&database, Some(&path), &[fail], &name(), genesis).expect("not run again");
        assert_eq!(schema(&database), 2);
        let copy = Database::open(dir.path().join("bindery.redb.schema-1")).expect("a copy");
        assert_eq!(schema(&copy), 1);
    }

    #[test]
    fn a_failure_leaves_the_old_schema_whole() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).expect("a database");
        bring_up_to_date(&database, None, &[], &name(), genesis).expect("filled");
        bring_up_to_date(&database, None, &[add, fail], &name(), genesis).expect_err("the second fails");
        assert_eq!(schema(&database), 2);
        bring_up_to_date(&database, None, &[fail, add], &name(), genesis).expect("goes on where it stopped");
        assert_eq!(schema(&database), 3);
        assert!(database.begin_read().expect("readable").open_table(ADDED).is_ok());
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).expect("a database");
        bring_up_to_date(&database, None, &[add], &name(), genesis).expect("filled");
        let error =
            bring_up_to_date(&database, None, &[], &name(), genesis).expect_err("it is newer").to_string();
        assert!(error.contains("schema 2") && error.contains("up to 1"), "{error}");
    }
}
