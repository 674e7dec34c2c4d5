//! `bindery import sydent`: reads the database and the configuration of a Sydent, so that Bindery goes on in its place.
//!
//! `settings` and `ini` read `sydent.conf`. `database` opens the SQLite file; `bindings`, `invitations` and `accounts`
//! read its tables into domain values, with `cells` for values that may be anything. `ops::import` stores them.
//! docs/sydent.md says what is taken and what is not.

mod accounts;
mod bindings;
mod cells;
mod database;
mod ini;
mod invitations;
mod report;
mod settings;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::database::{Database, Import};
pub use self::{
    report::{Report, Rows},
    settings::Settings,
};
use crate::{
    config::Config,
    domain::{secret::Key32, server_name::ServerName, time::Millis},
    ops::{
        import::{self, Identity, Outcome, Refused},
        random,
    },
    store::{Imported, Store, StoreError},
};

/// Hears how many rows were read since the last call.
pub type Step = Arc<dyn Fn(u64) + Send + Sync>;

/// The pepper. Sydent has one row at most.
const PEPPER: &str = "SELECT id, lookup_pepper FROM hashing_metadata ORDER BY id LIMIT 1";

/// Why nothing was imported, for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("{0}")]
    File(io::Error),
    /// `sydent.conf` lacks something.
    #[error("{path} {1}", path = .0.display())]
    Settings(PathBuf, String),
    /// The configurations have different server names.
    #[error(
        "sydent.conf has server.name = {sydent}, but server_name is '{own}': Sydent's signatures and tokens are worthless under another name, so set server_name = \"{sydent}\" (if homeservers reach this server under the other name too, add that to aliases)"
    )]
    OtherServerName {
        /// Sydent's name.
        sydent: String,
        /// The name in the configuration.
        own: String,
    },
    /// The file is not a database of Sydent.
    #[error("{path} is not a database of Sydent: {1}", path = .0.display())]
    NotSydent(PathBuf, String),
    /// Another version of Sydent wrote it.
    #[error(
        "{} has schema {schema} of Sydent, and Bindery reads only schema {known}: start Sydent 2.6.1 once on it, which brings an earlier one up to date, and stop it again",
        .path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: i64,
        /// The schema that Bindery reads.
        known: i64,
    },
    /// Another process writes to it.
    #[error("{path} is locked, because another process writes to it: stop Sydent first, or import a copy (sqlite3 {path} '.backup copy.db')", path = .0.display())]
    Locked(PathBuf),
    /// It is damaged.
    #[error("{path} is damaged: look at what 'sqlite3 {path} \"PRAGMA integrity_check\"' says, and import a good copy, such as from a backup", path = .0.display())]
    Damaged(PathBuf),
    /// It was not closed.
    #[error("{path} was not closed, and cannot be read without writing to it: stop Sydent, and import a copy (sqlite3 {path} '.backup copy.db')", path = .0.display())]
    NotClosed(PathBuf),
    /// SQLite failed in another way.
    #[error("cannot read {path}: SQLite says {1}", path = .0.display())]
    Sqlite(PathBuf, String),
    /// Bindery's database cannot take it.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// Bindery's database failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The files of a Sydent, opened and checked.
pub struct Source {
    settings: Settings,
    database: Database,
    step: Step,
}

impl Source {
    /// Opens the files of a Sydent with this server's name. Without `database`, it is the one that its configuration names.
    ///
    /// # Errors
    /// If one of them cannot be used, or the name is another one.
    pub fn open(
        own: &Config,
        config: &Path,
        database: Option<&Path>,
        step: Step,
    ) -> Result<Self, ImportError> {
        let settings = Settings::read(config)?;
        if settings.server_name != own.server_name {
            let (sydent, own) = (settings.server_name, own.server_name.clone());
            return Err(ImportError::OtherServerName { sydent, own });
        }
        let named = settings.database.clone().ok_or_else(|| {
            ImportError::Settings(
                config.to_owned(),
                "has no db.file in [db]; name the file with --database".to_owned(),
            )
        });
        let path = database.map_or(named, |path| Ok(path.to_owned()))?;
        let database = Database::open(&path, step.clone())?;
        Ok(Self { settings, database, step })
    }

    /// The settings of the Sydent.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many times [`Step`] will be told of a row.
    pub fn steps(&self) -> Result<u64, ImportError> {
        let count = |table| self.database.count(table);
        // Associations are sorted first, and invitations are read twice.
        let twice = count("local_threepid_associations")?
            + count("global_threepid_associations")?
            + count("invite_tokens")?;
        let once = count("ephemeral_public_keys")? + count("tokens")? + count("accepted_terms_urls")?;
        Ok(2 * twice + once)
    }

    /// Imports everything into a database that has not been used yet, or nothing.
    ///
    /// # Errors
    /// If the database has been used, or one of the databases fails.
    pub async fn import(
        self,
        store: &Store,
        config: &Config,
        now: Millis,
    ) -> Result<Outcome<Report>, ImportError> {
        let Self { settings, database, step } = self;
        let pepper = pepper(&database)?;
        let has_pepper = pepper.is_some();
        let identity = Identity { key_id: settings.key_id, seed: settings.seed, pepper };
        let imported = Imported { at: now, source: database.hash };
        let server_name = settings.server_name;
        import::import(store, config, identity, imported, move |incoming| {
            let report = Report { pepper: has_pepper, ..Report::default() };
            let (database, spare_key) = (&database, Key32::new(random()));
            let mut import = Import { database, incoming, report, server_name, spare_key, now, step };
            import.associations()?;
            import.invitations()?;
            import.tokens()?;
            import.consents()?;
            let mut report = import.report;
            leave_tables(database, &mut report)?;
            Ok(report)
        })
        .await
    }
}

/// The pepper, if it is a text without spaces, as every Sydent makes it. Clients ask for a new one otherwise.
fn pepper(database: &Database) -> Result<Option<String>, ImportError> {
    let mut pepper = None;
    database.each(PEPPER, &[], |row| {
        pepper = cells::text(row, 1).ok().flatten().map(str::to_owned);
        Ok(())
    })?;
    let is_plain =
        |text: &String| (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    Ok(pepper.filter(is_plain))
}

/// Counts what Bindery does not take at all.
fn leave_tables(database: &Database, report: &mut Report) -> Result<(), ImportError> {
    for (table, reason) in [
        (
            "threepid_validation_sessions",
            "a session lasts a day at most, and its codes and secrets are stored in the clear; people ask for a new mail",
        ),
        ("threepid_token_auths", "as the validation sessions"),
        ("accounts", "Bindery stores no accounts, only their tokens and consents"),
        ("peers", "this version does not replicate to other servers"),
        ("peer_pubkeys", "as the peers"),
    ] {
        report.leave_table(table, database.count(table)?, reason);
    }
    if database.count("peers")? > 0 {
        database.each("SELECT id, name FROM peers WHERE active = 1 ORDER BY name LIMIT 50", &[], |row| {
            let name = cells::text(row, 1).ok().flatten().filter(|name| ServerName::is_valid(name));
            report.peers.extend(name.map(str::to_owned));
            Ok(())
        })?;
    }
    Ok(())
}
