//! Counts by day, IP address and user agent, in bounded memory.
//!
//! One network has a bounded number of rows, because a caller can send any user agent, and call from any address of
//! its /48. Its further requests are counted in one row, with the first address of the network and the user agent
//! `(others)`. Once half of all rows are used, a new address gets one row without its user agents. Once all are used,
//! further requests are counted in one shared row. This file knows nothing about files or the meaning of columns.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use ipnet::IpNet;
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

/// How many rows an IPv4 address or IPv6 /64, a /56 and a /48 have on a day, before their further requests are counted
/// in one more.
const MAX_ROWS_OF_NETWORKS: [u32; 3] = [32, 256, 1024];

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
    /// Whether the file of the day has these counts.
    is_stored: bool,
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

    /// The row to count in. It is no longer as it was stored.
    fn row(&mut self, day: Day, ip: Option<IpAddr>, agent: &str) -> &mut Row<N> {
        let mut key = self.hasher.hash_one((day, ip, agent));
        let (mut ip, mut agent) = (ip, agent);
        if !self.rows.contains_key(&key) {
            (ip, agent) = self.find_room(day, ip, agent);
            key = self.hasher.hash_one((day, ip, agent));
        }
        let new = || Row { day, ip, agent: agent.into(), counts: [0; N], is_stored: false };
        let row = self.rows.entry(key).or_insert_with(new);
        row.is_stored = false;
        row
    }

    /// Takes up a stored row. It replaces an earlier one of the same address and user agent.
    pub fn restore(&mut self, row: Row<N>) {
        let (day, ip) = (row.day, row.ip);
        let key = self.hasher.hash_one((day, ip, &*row.agent));
        if self.rows.insert(key, row).is_none()
            && let Some(ip) = ip
        {
            self.count_row(day, ip);
        }
    }

    /// The address and the user agent of the row in which a request is counted that has no row yet.
    fn find_room<'a>(&mut self, day: Day, ip: Option<IpAddr>, agent: &'a str) -> (Option<IpAddr>, &'a str) {
        let Some(ip) = ip else { return (None, "") };
        let others = if agent.is_empty() { "" } else { OTHERS };
        let rows = |key: &u64| self.rows_of_networks.get(key).copied().unwrap_or_default();
        let widest_full = networks(&self.hasher, day, ip).filter(|(key, _, most)| rows(key) >= *most).last();
        let (address, agent) = match widest_full {
            Some((_, network, _)) => (network.addr(), others),
            // The second half is for addresses alone.
            None if self.rows.len() >= self.max_rows / 2 => (Network::of(ip).address(), others),
            None => (ip, agent),
        };
        let has_row = self.rows.contains_key(&self.hasher.hash_one((day, Some(address), agent)));
        if !has_row && self.rows.len() >= self.max_rows {
            return (None, "");
        }
        if !has_row && widest_full.is_none() {
            self.count_row(day, ip);
        }
        (Some(address), agent)
    }

    /// Counts a row of the networks around an address.
    fn count_row(&mut self, day: Day, ip: IpAddr) {
        for (key, ..) in networks(&self.hasher, day, ip) {
            *self.rows_of_networks.entry(key).or_default() += 1;
        }
    }

    /// Takes all rows.
    pub fn take(&mut self) -> impl Iterator<Item = Row<N>> + use<N> {
        self.rows_of_networks.clear();
        std::mem::take(&mut self.rows).into_values()
    }

    /// All rows, in no order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Row<N>> {
        self.rows.values()
    }

    /// The rows that are not stored as they are now.
    pub fn changed(&self) -> impl Iterator<Item = &Row<N>> {
        self.rows.values().filter(|row| !row.is_stored)
    }

    /// Notes that all rows are stored.
    pub fn set_stored(&mut self) {
        self.rows.values_mut().for_each(|row| row.is_stored = true);
    }
}

/// The networks that an address is in, the narrowest first: the key of each, and how many rows it may have.
fn networks(hasher: &RandomState, day: Day, ip: IpAddr) -> impl Iterator<Item = (u64, IpNet, u32)> {
    let around = Network::of(ip).and_around().zip(MAX_ROWS_OF_NETWORKS);
    around.map(move |(network, most)| (hasher.hash_one((day, network)), network, most))
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

    /// The stored row from its written form.
    pub fn of_counted(row: CountedRow, columns: [&str; N]) -> Self {
        let counts = columns.map(|column| row.counts.get(column).copied().unwrap_or_default());
        let agent = row.agent.unwrap_or_default().into();
        Self { day: row.day, ip: row.ip, agent, counts, is_stored: true }
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
            assert_eq!(tally.rows.len(), MAX_ROWS_OF_NETWORKS[0] as usize + 1);
            let others = tally.rows().find(|row| &*row.agent == OTHERS).expect("a row");
            assert_eq!(others.counts[0], 200_000 - u64::from(MAX_ROWS_OF_NETWORKS[0]));
            assert_eq!(
                others.ip,
                Some(if is_ipv6 { "2001:db8::".parse().expect("an address") } else { ip(7) })
            );
            tally.count(Day(1), ip(8), "abuser", 0);
            assert!(tally.rows().any(|row| row.ip == Some(ip(8)) && &*row.agent == "abuser"));
        }
    }

    #[test]
    fn the_networks_of_one_customer_leave_room_for_the_addresses_of_others() {
        // A /48 has 65,536 networks that cost nothing. A program calls from each, once or with many user agents.
        for agents in [1, 40] {
            let mut tally = Tally::<1>::new(RandomState::new(), 10_000);
            for number in 0..200_000_u128 {
                let own = (0x2001_0db8_0007_u128 << 80) + ((number / agents % 0x1_0000) << 64) + 1;
                tally.count(Day(1), IpAddr::V6(own.into()), &format!("agent {}", number % agents), 0);
            }
            let most = MAX_ROWS_OF_NETWORKS[2] as usize;
            assert!((most..most + most / 16).contains(&tally.rows.len()), "{}", tally.rows.len());
            let others = tally.rows().find(|row| row.ip == "2001:db8:7::".parse().ok()).expect("a row");
            assert!(others.counts[0] > 150_000 && &*others.agent == OTHERS);
            tally.count(Day(1), ip(8), "abuser", 0);
            assert!(tally.rows().any(|row| row.ip == Some(ip(8)) && &*row.agent == "abuser"));
            // The same after a restart.
            let mut restored = Tally::<1>::new(RandomState::new(), 10_000);
            let stored = tally.rows().map(|row| row.to_counted(["page"], true));
            stored.for_each(|row| restored.restore(Row::of_counted(row, ["page"])));
            let rows = restored.rows.len();
            restored.count(Day(1), "2001:db8:7:ffff::2".parse().expect("an address"), "new", 0);
            assert_eq!((rows, restored.rows.len()), (tally.rows.len(), tally.rows.len()));
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
