//! What the server reads from its database and its disk at each scrape.

use prometheus_client::metrics::{family::Family, gauge::Gauge};

use super::{Labels, Register, seconds};
use crate::domain::{outbox::Kind, time::Millis};

/// The rows of the outbox of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The kind.
    pub kind: Kind,
    /// How many wait.
    pub rows: u64,
    /// When the oldest was queued.
    pub oldest: Option<Millis>,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Published addresses.
    pub bindings: u64,
    /// Access tokens.
    pub tokens: u64,
    /// The size of the database file.
    pub database_bytes: u64,
    /// What is free for the server in the file system of the data directory.
    pub free_bytes: u64,
    /// The outbox.
    pub outbox: Vec<Waiting>,
    /// When the file was last rewritten.
    pub rewritten: Option<Millis>,
    /// When the current pepper came into use.
    pub rotated: Option<Millis>,
    /// When the last backup was finished.
    pub backed_up: Option<Millis>,
}

/// The gauges for it.
pub(super) struct Gauges {
    bindings: Gauge,
    tokens: Gauge,
    database_bytes: Gauge,
    free_bytes: Gauge,
    waiting: Family<Labels<1>, Gauge>,
    oldest: Family<Labels<1>, Gauge>,
    rewrite: Gauge,
    rotation: Gauge,
    backup: Gauge,
}

impl Gauges {
    pub(super) fn new(own: &mut Register<'_>) -> Self {
        Self {
            bindings: own.add("bindings", "Published addresses"),
            tokens: own.add("tokens", "Access tokens"),
            database_bytes: own.add("database_size_bytes", "Size of the database file"),
            free_bytes: own.add(
                "data_dir_free_bytes",
                "Free space for the server in the file system of the data directory",
            ),
            waiting: own.add("outbox_waiting", "Rows of the outbox that wait to be sent, by kind"),
            oldest: own.add(
                "outbox_oldest_age_seconds",
                "Age of the oldest row of the outbox, by kind; 0 if none waits",
            ),
            rewrite: own.add(
                "rewrite_last_success_timestamp_seconds",
                "When the database file was last rewritten, in seconds since 1970; 0 if it never was",
            ),
            rotation: own.add(
                "rotation_last_success_timestamp_seconds",
                "When the current pepper came into use, in seconds since 1970",
            ),
            backup: own.add(
                "backup_last_success_timestamp_seconds",
                "When the last backup was finished, in seconds since 1970; 0 if there was none",
            ),
        }
    }

    pub(super) fn set(&self, observed: &Observed, now: Millis) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let time = |time: Option<Millis>| time.map_or(0, seconds);
        self.bindings.set(number(observed.bindings));
        self.tokens.set(number(observed.tokens));
        self.database_bytes.set(number(observed.database_bytes));
        self.free_bytes.set(number(observed.free_bytes));
        for Waiting { kind, rows, oldest } in &observed.outbox {
            let labels = [("kind", kind.as_str())];
            let age = oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0) / 1000);
            self.waiting.get_or_create(&labels).set(number(*rows));
            self.oldest.get_or_create(&labels).set(number(age));
        }
        self.rewrite.set(time(observed.rewritten));
        self.rotation.set(time(observed.rotated));
        self.backup.set(time(observed.backed_up));
    }
}
