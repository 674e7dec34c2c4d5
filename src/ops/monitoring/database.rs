//! What a database holds, in counts and times. `bindery status` reads it also while no server runs.

use serde::{Deserialize, Serialize};

use super::{outbox::Count, rotated};
use crate::{
    domain::time::Millis,
    metrics::Waiting,
    store::{ReadOnly, SCHEMA, Scan, StoreError},
};

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// The version of its schema.
    pub schema: u32,
    /// Published addresses.
    pub bindings: u64,
    /// Access tokens.
    pub tokens: u64,
    /// Validation sessions.
    pub sessions: u64,
    /// The outbox by kind.
    pub outbox: Vec<OutboxStatus>,
    /// When the last round of retention began.
    pub retention: Option<Millis>,
    /// When the file was last rewritten.
    pub rewrite: Option<Millis>,
    /// When the current pepper came into use.
    pub rotation: Option<Millis>,
    /// When the last backup was finished.
    pub backup: Option<Millis>,
}

/// The rows of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// The kind.
    pub kind: String,
    /// How many wait.
    pub waiting: u64,
    /// When the oldest was queued.
    pub oldest: Option<Millis>,
}

impl DatabaseStatus {
    /// Of a database that no server uses.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(database: &ReadOnly) -> Result<Self, StoreError> {
        let (scan, mut count) = (database.scan(), Count::default());
        while let Some(cursor) = count.cursor.take() {
            count = count.step(&scan, cursor)?;
        }
        Self::with_outbox(&scan, count.waiting)
    }

    pub(super) fn with_outbox(scan: &Scan<'_>, outbox: Vec<Waiting>) -> Result<Self, StoreError> {
        let counts = scan.counts()?;
        let of_kind = |Waiting { kind, rows, oldest }: Waiting| OutboxStatus {
            kind: kind.as_str().to_owned(),
            waiting: rows,
            oldest,
        };
        Ok(Self {
            schema: SCHEMA,
            bindings: counts.associations,
            tokens: counts.tokens,
            sessions: counts.sessions,
            outbox: outbox.into_iter().map(of_kind).collect(),
            retention: scan.last_round()?,
            rewrite: scan.rewritten()?,
            rotation: rotated(scan),
            backup: scan.backed_up()?,
        })
    }
}
