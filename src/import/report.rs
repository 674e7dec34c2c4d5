//! What an import says when it is done: what was taken, and what was not and why.
//!
//! Rows are named by their number, so that the report can be kept and shown. It has no address and no Matrix ID.

use std::collections::BTreeMap;

/// How many rows of one kind are named.
const NAMED_ROWS: usize = 10;

/// The report of an import.
#[derive(Debug, Default)]
pub struct Report {
    /// Addresses that were published at this server.
    pub local: u64,
    /// Addresses that were published at one of its peers.
    pub replicated: u64,
    /// Pending invitations.
    pub invitations: u64,
    /// Invitations whose key in the mail is a guess.
    pub uncertain_keys: u64,
    /// Access tokens.
    pub tokens: u64,
    /// Consents to documents that the configuration still offers.
    pub consents: u64,
    /// Whether the lookup pepper was taken.
    pub pepper: bool,
    /// What was not taken, by table and reason.
    pub left: BTreeMap<(&'static str, &'static str), Rows>,
    /// The names of its active peers.
    pub peers: Vec<String>,
}

/// Rows that were not taken for one reason.
#[derive(Debug, Default)]
pub struct Rows {
    /// How many.
    pub count: u64,
    /// The numbers of the first ones.
    pub first: Vec<i64>,
}

impl Report {
    /// Adds a row that was not taken.
    pub fn leave(&mut self, table: &'static str, row: i64, reason: &'static str) {
        let rows = self.left.entry((table, reason)).or_default();
        rows.count += 1;
        if rows.first.len() < NAMED_ROWS {
            rows.first.push(row);
        }
    }

    /// Adds a whole table that was not taken.
    pub fn leave_table(&mut self, table: &'static str, count: u64, reason: &'static str) {
        if count > 0 {
            self.left.insert((table, reason), Rows { count, first: Vec::new() });
        }
    }
}
