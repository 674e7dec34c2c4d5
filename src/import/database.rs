//! Opens Sydent's database read-only, checks that it is one and that it is whole, and reads its tables in one
//! transaction.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, ToSql};
use sha2::{Digest, Sha256};

use super::{ImportError, PEPPER, Report, Step, accounts, bindings, invitations};
use crate::{
    domain::{file_error::with_path, secret::Key32, time::Millis},
    ops::import::Incoming,
};

/// The schema of Sydent 2.6.1, its last version.
const SCHEMA: i64 = 5;

/// How long another process may hold the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

const HASHED_BYTES: usize = 1 << 20;

/// The statements that read tables. Each must be possible.
const READS: [&str; 6] = [
    bindings::ASSOCIATIONS,
    invitations::INVITATIONS,
    invitations::KEYS,
    accounts::TOKENS,
    accounts::CONSENTS,
    PEPPER,
];

/// Sydent's database, open in a read transaction.
pub struct Database {
    connection: Connection,
    path: PathBuf,
    /// The SHA-256 of its file.
    pub hash: [u8; 32],
}

impl Database {
    /// Opens the database. `step` hears how many rows were read, as during the import.
    ///
    /// # Errors
    /// If it is in use, damaged, or not Sydent's.
    pub fn open(path: &Path, step: Step) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(|error| ImportError::File(with_path(path)(error)))?;
        let metadata = file.metadata().map_err(|error| ImportError::File(with_path(path)(error)))?;
        if !metadata.is_file() {
            return Err(ImportError::NotSydent(path.to_owned(), "it is not a file".to_owned()));
        }
        if metadata.len() == 0 {
            return Err(ImportError::NotSydent(path.to_owned(), "it is empty".to_owned()));
        }
        let opened = open_read_only(path, step);
        let connection = opened.map_err(|error| explain(path, error))?;
        let database = Self { connection, path: path.to_owned(), hash: hash(path, file)? };
        database.check()?;
        Ok(database)
    }

    fn check(&self) -> Result<(), ImportError> {
        let not_sydent = |what: String| ImportError::NotSydent(self.path.clone(), what);
        let schema: i64 = self.ask("PRAGMA user_version")?;
        let tables: i64 =
            self.ask("SELECT count(*) FROM sqlite_schema WHERE name = 'local_threepid_associations'")?;
        if tables == 0 {
            return Err(not_sydent("it has no table local_threepid_associations".to_owned()));
        }
        if schema != SCHEMA {
            return Err(ImportError::Schema { path: self.path.clone(), schema, known: SCHEMA });
        }
        let state: String = self.ask("PRAGMA quick_check(1)")?;
        if state != "ok" {
            return Err(ImportError::Damaged(self.path.clone()));
        }
        for read in READS {
            self.connection.prepare(read).map_err(|error| match error.sqlite_error_code() {
                // A table or a column is missing. The statement has no data in it.
                Some(ErrorCode::Unknown) => not_sydent(error.to_string()),
                _ => explain(&self.path, error),
            })?;
        }
        Ok(())
    }

    /// The first column of the first row.
    pub fn ask<T: rusqlite::types::FromSql>(&self, question: &str) -> Result<T, ImportError> {
        let answer = self.connection.query_row(question, [], |row| row.get(0));
        answer.map_err(|error| explain(&self.path, error))
    }

    /// The number of rows of a table; 0 if there is no such table.
    pub fn count(&self, table: &str) -> Result<u64, ImportError> {
        let is_there: i64 = self
            .ask(&format!("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '{table}'"))?;
        if is_there == 0 {
            return Ok(0);
        }
        let count: i64 = self.ask(&format!("SELECT count(*) FROM {table}"))?;
        Ok(count.unsigned_abs())
    }

    /// Calls `take` for each row.
    pub fn each(
        &self,
        read: &str,
        parameters: &[(&str, &dyn ToSql)],
        mut take: impl FnMut(&Row<'_>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let explained = |error| explain(&self.path, error);
        let mut statement = self.connection.prepare(read).map_err(explained)?;
        let mut rows = statement.query(parameters).map_err(explained)?;
        while let Some(row) = rows.next().map_err(explained)? {
            take(row)?;
        }
        Ok(())
    }
}

fn open_read_only(path: &Path, step: Step) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // The file may be anything: its schema must not run functions.
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON; BEGIN;")?;
    bindings::define_canonical(&connection, step)?;
    // From here on, nobody can change the file.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// The SHA-256 of the database, with what a write-ahead log adds to it.
fn hash(path: &Path, file: File) -> Result<[u8; 32], ImportError> {
    let mut hash = Sha256::new();
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let files = std::iter::once(file).chain(File::open(&log));
    for mut file in files {
        add(&mut hash, &mut file).map_err(|error| ImportError::File(with_path(path)(error)))?;
    }
    Ok(hash.finalize().into())
}

fn add(hash: &mut Sha256, file: &mut impl io::Read) -> io::Result<()> {
    let mut buffer = vec![0; HASHED_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// What an error of SQLite means to the operator. Its own text may quote a value, so only texts about the file are kept.
fn explain(path: &Path, error: rusqlite::Error) -> ImportError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ImportError::Locked(path),
        Some(ErrorCode::DatabaseCorrupt) => ImportError::Damaged(path),
        Some(ErrorCode::NotADatabase) => {
            ImportError::NotSydent(path, "it is not an SQLite database".to_owned())
        }
        // After a crash, or with a write-ahead log, SQLite must write before it can read.
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => ImportError::NotClosed(path),
        Some(code) => ImportError::Sqlite(path, format!("{code:?}")),
        None => ImportError::Sqlite(path, "a statement failed".to_owned()),
    }
}

/// An import that is under way.
pub struct Import<'a, 'b, 'txn> {
    pub database: &'a Database,
    pub incoming: &'a mut Incoming<'b, 'txn>,
    pub report: Report,
    /// The name of the server.
    pub server_name: String,
    /// The key of the ephemeral keys of invitations for which Sydent has none.
    pub spare_key: Key32,
    pub now: Millis,
    pub step: Step,
}

impl Import<'_, '_, '_> {
    /// Calls `take` for each row, with the number in its first column.
    pub fn each(
        &mut self,
        read: &str,
        take: impl FnMut(&mut Self, i64, &Row<'_>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        self.each_with(read, &[], take)
    }

    /// As [`Import::each`], with values for the parameters of the statement.
    pub fn each_with(
        &mut self,
        read: &str,
        parameters: &[(&str, &dyn ToSql)],
        mut take: impl FnMut(&mut Self, i64, &Row<'_>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let database = self.database;
        database.each(read, parameters, |row| {
            (self.step)(1);
            take(self, row.get(0).unwrap_or_default(), row)
        })
    }
}
