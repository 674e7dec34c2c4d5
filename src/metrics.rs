//! What the operator's monitoring may count, in the Prometheus format.
//!
//! Kinds and outcomes only: no label may ever hold an address, a token, a name of a person or of a
//! homeserver (design, section 4, rule 9).

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What is counted since the server started.
pub struct Metrics {
    registry: Registry,
    outbox: Family<Outbox, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outbox {
    kind: &'static str,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let (mut registry, outbox) = (Registry::with_prefix("bindery"), Family::default());
        let help = "Attempts to send what has to leave this machine, by kind and outcome";
        registry.register("outbox", help, outbox.clone());
        Self { registry, outbox }
    }
}

impl Metrics {
    /// Counts what became of something in the outbox.
    pub fn count_outbox(&self, kind: &'static str, outcome: &'static str) {
        self.outbox.get_or_create(&Outbox { kind, outcome }).inc();
    }

    /// All of it as text (OpenMetrics 1.0).
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
