//! Bringing a database up to date when it is opened: a new one is filled, an old one migrated, a
//! newer or foreign one refused.
//!
//! Migrations are an ordered list; each runs in one transaction together with its new version
//! number, so a crash leaves either the old schema or the new one. The old file is copied first.

use std::{fs, path::Path};

use redb::{Database, ReadableTable, WriteTransaction};

use super::{
    Genesis, OpenError, StoreError,
    codec::{decode, encode},
    rows::{PepperRow, SigningKeyRow},
    tables::{META, PEPPERS, SIGNING_KEYS},
    writes::Writes,
};
use crate::domain::{server_name::ServerName, signing::FIRST_KEY_ID};

/// Changes the tables from one schema version to the next.
pub type Migration = fn(&WriteTransaction) -> Result<(), StoreError>;

/// The migrations from schema 1 on, in order: the first leads to schema 2.
pub const ALL: &[Migration] = &[];

/// The schema that the oldest database has.
const FIRST_SCHEMA: u32 = 1;

/// Makes `database` one that this program can use. `path` is where its file is, for the copy that
/// precedes a migration.
pub fn bring_up_to_date(
    database: &Database,
    path: Option<&Path>,
    migrations: &[Migration],
    name: &ServerName,
    genesis: impl FnOnce() -> Genesis,
) -> Result<(), OpenError> {
    let newest = FIRST_SCHEMA + u32::try_from(migrations.len()).map_err(StoreError::new)?;
    let transaction = database.begin_write().map_err(StoreError::new)?;
    let Some((schema, stored)) = identity(&transaction)? else {
        fill(&transaction, newest, name, genesis())?;
        return Ok(transaction.commit().map_err(StoreError::new)?);
    };
    if stored != name.as_str() {
        return Err(OpenError::OtherServerName { stored, configured: name.to_string() });
    }
    if schema > newest || schema < FIRST_SCHEMA {
        return Err(OpenError::NewerSchema(schema, newest));
    }
    transaction.abort().map_err(StoreError::new)?;
    if let Some(path) = path.filter(|_| schema < newest) {
        let copy = path.with_extension(format!("redb.schema-{schema}"));
        // Nothing writes to the file between the abort above and the first migration below.
        fs::copy(path, &copy).map_err(|error| OpenError::Directory(copy, error))?;
    }
    for version in schema..newest {
        let transaction = database.begin_write().map_err(StoreError::new)?;
        migrations[(version - FIRST_SCHEMA) as usize](&transaction)?;
        put_meta(&transaction, "schema", &(version + 1))?;
        transaction.commit().map_err(StoreError::new)?;
        tracing::info!(schema = version + 1, "the database was migrated");
    }
    Ok(())
}

/// The schema and server name of a database; `None` if it is new.
fn identity(transaction: &WriteTransaction) -> Result<Option<(u32, String)>, StoreError> {
    let meta = transaction.open_table(META).map_err(StoreError::new)?;
    let schema = meta.get("schema").map_err(StoreError::new)?.map(|row| decode(row.value())).transpose()?;
    let name =
        meta.get("server_name").map_err(StoreError::new)?.map(|row| decode(row.value())).transpose()?;
    match (schema, name) {
        (None, None) => Ok(None),
        (Some(schema), Some(name)) => Ok(Some((schema, name))),
        _ => Err(StoreError::new("the database does not say whose it is")),
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
    let mut keys = transaction.open_table(SIGNING_KEYS).map_err(StoreError::new)?;
    let key = encode(&SigningKeyRow { seed: genesis.signing_seed, created })?;
    keys.insert(FIRST_KEY_ID, key.as_slice()).map_err(StoreError::new)?;
    drop(keys);
    let mut peppers = transaction.open_table(PEPPERS).map_err(StoreError::new)?;
    let pepper = encode(&PepperRow { text: genesis.pepper, created })?;
    peppers.insert(1, pepper.as_slice()).map_err(StoreError::new)?;
    drop(peppers);
    // All tables exist from here on, so that a snapshot can always open them.
    drop(Writes::open(transaction)?);
    Ok(())
}

fn put_meta(
    transaction: &WriteTransaction,
    key: &str,
    value: &impl serde::Serialize,
) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META).map_err(StoreError::new)?;
    meta.insert(key, encode(value)?.as_slice()).map_err(StoreError::new)?;
    Ok(())
}
