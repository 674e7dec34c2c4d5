//! The metrics for the operator's monitoring, in the Prometheus format.
//!
//! They count kinds and outcomes only. No label may hold an address, a token, or the name of a person or a
//! homeserver (design, section 4, rule 9).

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::domain::time::Millis;

/// The metrics since the server started.
pub struct Metrics {
    registry: Registry,
    outbox: Family<Outbox, Counter>,
    log_rows_lost: Family<Log, Counter>,
    looked_up: Counter,
    lookup_alarm: Gauge,
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
        let help = "Attempts to send a row of the outbox, by kind and outcome";
        registry.register("outbox", help, outbox.clone());
        let log_rows_lost = Family::default();
        let help = "Log rows that were lost because they could not be written, by log";
        registry.register("log_rows_lost", help, log_rows_lost.clone());
        let looked_up = Counter::default();
        let help = "Addresses that all accounts together have looked up";
        registry.register("looked_up_addresses", help, looked_up.clone());
        let lookup_alarm = Gauge::default();
        let help = "1 from the time when all accounts together have looked up more addresses in a day than lookup.alarm_per_day, until midnight (UTC)";
        registry.register("lookup_alarm", help, lookup_alarm.clone());
        let retention_round = Gauge::default();
        let help = "Start of the last successful round of retention, in seconds since 1970";
        registry.register("retention_round", help, retention_round.clone());
        let retention_halted = Gauge::default();
        let help = "1 while retention is halted because the clock has jumped, until the clock is right again or the operator confirms it";
        registry.register("retention_halted", help, retention_halted.clone());
        let rewrite_overdue = Gauge::default();
        let help = "1 while the database file holds deleted rows for longer than privacy.deleted_binding_days, because the file could not be rewritten";
        registry.register("rewrite_overdue", help, rewrite_overdue.clone());
        let help = "Requests for the link to a person's own page, by outcome";
        registry.register("visits", help, visits.clone());
        Self {
            registry,
            outbox,
            log_rows_lost,
            looked_up,
            lookup_alarm,
            visits,
            retention_round,
            retention_halted,
            rewrite_overdue,
        }
    }
}

impl Metrics {
    /// Counts an attempt to send a row of the outbox.
    pub fn count_outbox(&self, kind: &'static str, outcome: &'static str) {
        self.outbox.get_or_create(&Outbox { kind, outcome }).inc();
    }

    /// Counts lost rows of a log.
    pub fn count_lost_log_rows(&self, log: &'static str, rows: u64) {
        self.log_rows_lost.get_or_create(&Log { log }).inc_by(rows);
    }

    /// Counts addresses that were looked up.
    pub fn count_looked_up(&self, addresses: u64) {
        self.looked_up.inc_by(addresses);
    }

    /// Sets whether more addresses were looked up today than the operator expects.
    pub fn show_lookup_alarm(&self, is_passed: bool) {
        self.lookup_alarm.set(is_passed.into());
    }

    /// Sets when the last successful round of retention began.
    pub fn show_retention_round(&self, begun: Millis) {
        self.retention_round.set(i64::try_from(begun.0 / 1000).unwrap_or(i64::MAX));
    }

    /// Sets whether retention is halted.
    pub fn show_retention_halted(&self, is_halted: bool) {
        self.retention_halted.set(is_halted.into());
    }

    /// Sets whether the file holds deleted bytes for longer than allowed.
    pub fn show_rewrite_overdue(&self, is_overdue: bool) {
        self.rewrite_overdue.set(is_overdue.into());
    }

    /// Counts a request for the link to a person's own page.
    pub fn count_visit(&self, outcome: &'static str) {
        self.visits.get_or_create(&Visits { outcome }).inc();
    }

    /// The metrics as text (OpenMetrics 1.0).
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
