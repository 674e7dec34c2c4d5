//! Counts by day, IP address and user agent, in bounded memory.
//!
//! One network has a bounded number of rows, because a caller can send any user agent, and call from any address of
//! its /64. Requests that find no room keep their address and lose their user agent. If there is no room for the
//! address either, they are counted in one shared row. This file knows nothing about files or the meaning
//! of columns.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use crate::domain::{day::Day, network::Network};

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

/// How many rows a network has on a day, before its further requests are counted in one more.
const MAX_ROWS_PER_NETWORK: u32 = 32;

/// The user agent of the row in which the further requests of a network are counted.
const OTHERS: &str = "(others)";

/// Counts in `N` columns.
pub(super) struct Tally<const N: usize> {
    hasher: RandomState,
    /// Keyed by a hash of day, IP address and user agent. 64 bits under a random key do not collide in
    /// practice.
    rows: HashMap<u64, Row<N>>,
    /// How many rows each network has, by a hash of day and network.
    rows_of_networks: HashMap<u64, u32>,
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
        Self { hasher, rows: HashMap::new(), rows_of_networks: HashMap::new(), max_rows }
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
        let mut key = self.hasher.hash_one((day, ip, agent));
        let (mut ip, mut agent) = (ip, agent);
        if !self.rows.contains_key(&key) {
            (ip, agent) = self.find_room(day, ip, agent);
            key = self.hasher.hash_one((day, ip, agent));
        }
        self.rows.entry(key).or_insert_with(|| Row { day, ip, agent: agent.into(), counts: [0; N] })
    }

    /// The address and the user agent of the row in which a request is counted that has no row yet.
    fn find_room<'a>(&mut self, day: Day, ip: Option<IpAddr>, agent: &'a str) -> (Option<IpAddr>, &'a str) {
        let Some(network) = ip.map(Network::of) else { return (None, "") };
        let key = self.hasher.hash_one((day, network));
        let rows = self.rows_of_networks.get(&key).copied().unwrap_or_default();
        // The second half is for addresses alone.
        if rows < MAX_ROWS_PER_NETWORK && self.rows.len() < self.max_rows / 2 {
            self.rows_of_networks.insert(key, rows + 1);
            return (ip, agent);
        }
        let others = (Some(network.address()), if agent.is_empty() { "" } else { OTHERS });
        let has_row = self.rows.contains_key(&self.hasher.hash_one((day, others.0, others.1)));
        if has_row || self.rows.len() < self.max_rows { others } else { (None, "") }
    }

    /// Takes all rows.
    pub fn take(&mut self) -> impl Iterator<Item = Row<N>> + use<N> {
        self.rows_of_networks.clear();
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

    fn ip(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn memory_is_bounded_and_every_request_is_counted() {
        let mut tally = Tally::<2>::new(RandomState::new(), 100);
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

    #[test]
    fn random_user_agents_and_addresses_of_one_network_leave_room_for_the_addresses_of_others() {
        for is_ipv6 in [false, true] {
            let mut tally = Tally::<1>::new(RandomState::new(), 100_000);
            for number in 0..200_000_u128 {
                let own = IpAddr::V6(((0x2001_0db8_u128 << 96) + number).into());
                tally.count(Day(1), if is_ipv6 { own } else { ip(7) }, &format!("agent {number}"), 0);
            }
            assert_eq!(tally.rows.len(), MAX_ROWS_PER_NETWORK as usize + 1);
            let others = tally.rows().find(|row| &*row.agent == OTHERS).expect("a row");
            assert_eq!(others.counts[0], 200_000 - u64::from(MAX_ROWS_PER_NETWORK));
            assert_eq!(
                others.ip,
                Some(if is_ipv6 { "2001:db8::".parse().expect("an address") } else { ip(7) })
            );
            tally.count(Day(1), ip(8), "abuser", 0);
            assert!(tally.rows().any(|row| row.ip == Some(ip(8)) && &*row.agent == "abuser"));
        }
    }

    #[test]
    fn an_address_is_kept_when_there_is_no_room_for_its_user_agent() {
        let mut tally = Tally::<1>::new(RandomState::new(), 100);
        for number in 0..60 {
            tally.count(Day(1), ip(number), "agent", 0);
        }
        for number in 50..60 {
            assert!(tally.rows().any(|row| row.ip == Some(ip(number)) && &*row.agent == OTHERS), "{number}");
        }
        // Merging keeps what it can as well.
        let mut all = Tally::<1>::new(tally.hasher.clone(), 100);
        tally.take().for_each(|row| all.add(&row));
        assert_eq!(all.rows().filter(|row| row.ip.is_some()).count(), 60);
    }
}
