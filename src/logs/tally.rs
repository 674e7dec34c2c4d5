//! Counts by day, IP address and user agent, in bounded memory.
//!
//! Requests that find no room are counted in one shared row. This file knows nothing about files or the meaning
//! of columns.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use crate::domain::day::Day;

/// A row as it is written: one JSON object, with each count under the name of its column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedRow {
    /// The UTC day.
    pub day: Day,
    /// The IP address. `None` in the shared row.
    pub ip: Option<IpAddr>,
    /// The user agent. `None` in a log without user agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The counts that are not zero.
    #[serde(flatten)]
    pub counts: BTreeMap<String, u64>,
}

/// Counts in `N` columns.
pub(super) struct Tally<const N: usize> {
    hasher: RandomState,
    /// Keyed by a hash of day, IP address and user agent. 64 bits under a random key do not collide in
    /// practice.
    rows: HashMap<u64, Row<N>>,
    max_rows: usize,
}

/// The counts of one IP address and user agent on one day.
pub(super) struct Row<const N: usize> {
    pub day: Day,
    ip: Option<IpAddr>,
    agent: Box<str>,
    counts: [u64; N],
}

impl<const N: usize> Tally<N> {
    /// An empty tally of at most `max_rows` rows and the shared one. Tallies that are merged must share a hasher.
    pub fn new(hasher: RandomState, max_rows: usize) -> Self {
        Self { hasher, rows: HashMap::new(), max_rows }
    }

    /// Counts one in a column. Allocates only for a new row.
    pub fn count(&mut self, day: Day, ip: IpAddr, agent: &str, column: usize) {
        self.row(day, Some(ip), agent).counts[column] += 1;
    }

    /// Adds a row of another tally.
    pub fn add(&mut self, row: &Row<N>) {
        let counts = &mut self.row(row.day, row.ip, &row.agent).counts;
        for (count, more) in counts.iter_mut().zip(row.counts) {
            *count = count.saturating_add(more);
        }
    }

    fn row(&mut self, day: Day, ip: Option<IpAddr>, agent: &str) -> &mut Row<N> {
        let key = self.hasher.hash_one((day, ip, agent));
        let has_room = self.rows.len() < self.max_rows || self.rows.contains_key(&key);
        let (ip, agent) = if has_room { (ip, agent) } else { (None, "") };
        let key = if has_room { key } else { self.hasher.hash_one((day, ip, agent)) };
        self.rows.entry(key).or_insert_with(|| Row { day, ip, agent: agent.into(), counts: [0; N] })
    }

    /// Takes all rows.
    pub fn take(&mut self) -> impl Iterator<Item = Row<N>> + use<N> {
        std::mem::take(&mut self.rows).into_values()
    }

    /// All rows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &Row<N>> {
        self.rows.values()
    }
}

impl<const N: usize> Row<N> {
    /// The row in its written form.
    pub fn to_counted(&self, columns: [&str; N], has_agents: bool) -> CountedRow {
        let counts = columns.iter().zip(self.counts).filter(|(_, count)| *count > 0);
        CountedRow {
            day: self.day,
            ip: self.ip,
            agent: has_agents.then(|| self.agent.to_string()),
            counts: counts.map(|(column, count)| ((*column).to_owned(), count)).collect(),
        }
    }

    /// The row from its written form.
    pub fn of_counted(row: CountedRow, columns: [&str; N]) -> Self {
        let counts = columns.map(|column| row.counts.get(column).copied().unwrap_or_default());
        Self { day: row.day, ip: row.ip, agent: row.agent.unwrap_or_default().into(), counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_every_request_is_counted() {
        let mut tally = Tally::<2>::new(RandomState::new(), 100);
        let ip = |number: u32| IpAddr::from(number.to_be_bytes());
        for _ in 0..2 {
            for number in 0..1000 {
                tally.count(Day(1), ip(number), "agent", 1);
            }
        }
        assert_eq!(tally.rows.len(), 101);
        let others: u64 = tally.rows().filter(|row| row.ip.is_none()).map(|row| row.counts[1]).sum();
        assert_eq!(others, 2 * 900);
        let mut all = Tally::<2>::new(tally.hasher.clone(), 50);
        tally.take().for_each(|row| all.add(&row));
        assert_eq!(tally.rows.len(), 0);
        // The shared row may be among the first fifty.
        assert!((50..=51).contains(&all.rows.len()));
        assert_eq!(all.rows().map(|row| row.counts[1]).sum::<u64>(), 2000);
    }
}
