//! What the operator's monitoring may count, in the Prometheus format.
//!
//! Kinds and outcomes only: no label may ever hold an address, a token, a name of a person or of a
//! homeserver (design, section 4, rule 9).

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::domain::time::Millis;

/// What is counted since the server started.
pub struct Metrics {
    registry: Registry,
    outbox: Family<Outbox, Counter>,
    log_rows_lost: Family<Log, Counter>,
    retention_round: Gauge,
    retention_halted: Gauge,
    rewrite_overdue: Gauge,
    visits: Family<Visits, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Log {
    log: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outbox {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Visits {
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("bindery");
        let (outbox, visits) = (Family::default(), Family::default());
        let help = "Attempts to send what has to leave this machine, by kind and outcome";
        registry.register("outbox", help, outbox.clone());
        let log_rows_lost = Family::default();
        let help = "Rows that could not be written into a log, by log";
        registry.register("log_rows_lost", help, log_rows_lost.clone());
        let retention_round = Gauge::default();
        let help = "When everything was last deleted that had reached its age, in seconds since 1970";
        registry.register("retention_round", help, retention_round.clone());
        let retention_halted = Gauge::default();
        let help = "1 after the clock has jumped, until it is right again or the operator says that it is: nothing is deleted for its age";
        registry.register("retention_halted", help, retention_halted.clone());
        let rewrite_overdue = Gauge::default();
        let help = "1 while something that was removed is in the database for longer than is promised, because the file could not be rewritten";
        registry.register("rewrite_overdue", help, rewrite_overdue.clone());
        let help = "People who asked for the link to their own page, by what became of it";
        registry.register("visits", help, visits.clone());
        Self { registry, outbox, log_rows_lost, visits, retention_round, retention_halted, rewrite_overdue }
    }
}

impl Metrics {
    /// Counts what became of something in the outbox.
    pub fn count_outbox(&self, kind: &'static str, outcome: &'static str) {
        self.outbox.get_or_create(&Outbox { kind, outcome }).inc();
    }

    /// Counts rows that a log has lost.
    pub fn count_lost_log_rows(&self, log: &'static str, rows: u64) {
        self.log_rows_lost.get_or_create(&Log { log }).inc_by(rows);
    }

    /// Says when a round of retention that has gone well was begun.
    pub fn show_retention_round(&self, begun: Millis) {
        self.retention_round.set(i64::try_from(begun.0 / 1000).unwrap_or(i64::MAX));
    }

    /// Says whether rounds of retention rest.
    pub fn show_retention_halted(&self, is_halted: bool) {
        self.retention_halted.set(is_halted.into());
    }

    /// Says whether something that was removed is in the file for longer than is promised.
    pub fn show_rewrite_overdue(&self, is_overdue: bool) {
        self.rewrite_overdue.set(is_overdue.into());
    }

    /// Counts what became of somebody who asked for the link to their page.
    pub fn count_visit(&self, outcome: &'static str) {
        self.visits.get_or_create(&Visits { outcome }).inc();
    }

    /// All of it as text (OpenMetrics 1.0).
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
