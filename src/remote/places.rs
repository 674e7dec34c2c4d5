//! The places for requests to other servers: how many may run at once, in all and for one holder.
//!
//! A request that gets no place is refused at once. A queue would let a stranger whose server never answers make
//! everybody wait.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::domain::{
    network::Network,
    registrable::registrable_domain,
    server_name::{ServerName, host_key},
};

/// The share of one registrable domain, and of one caller. Somebody who wants all places needs many of both.
const DOMAIN_SHARE: usize = 8;
const CALLER_SHARE: usize = 16;
/// A stranger gets a /48 as easily as a /64. It may hold this many times the places of a /64.
const WIDE_NETWORK: usize = 4;

/// Who holds a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// All requests of this kind.
    All,
    /// The registrable domain that is asked, or the network of an address.
    Domain(String),
    /// The network of the caller.
    Caller(Network),
    /// The /48 of the caller.
    WideCaller(IpAddr),
    /// The address that is dialled, or its /48.
    Address(IpAddr),
}

/// The places of one kind of request.
#[derive(Clone)]
pub struct Places {
    total: usize,
    held: Arc<Mutex<HashMap<Holder, usize>>>,
}

/// A place of each holder. Dropping it frees them.
#[must_use]
pub struct Place {
    holders: Vec<Holder>,
    held: Arc<Mutex<HashMap<Holder, usize>>>,
}

/// Some holder has no place left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace;

impl Places {
    /// `total` places.
    pub fn new(total: usize) -> Self {
        Self { total: total.max(1), held: Arc::default() }
    }

    /// A place for a request of `caller` to `server`.
    pub fn take(&self, server: &ServerName, caller: Network) -> Result<Place, NoPlace> {
        let (of_domain, of_caller) = (self.share(DOMAIN_SHARE), self.share(CALLER_SHARE));
        let mut wanted = vec![
            (Holder::All, self.total),
            (Holder::Domain(owner_of(server.as_str())), of_domain),
            (Holder::Caller(caller), of_caller),
        ];
        if caller.address().is_ipv6() {
            let wide = WIDE_NETWORK * of_caller;
            wanted.push((Holder::WideCaller(prefix_48(caller.address())), wide));
        }
        self.take_all(wanted)
    }

    /// A place for a connection that may dial each of `addresses`.
    pub fn take_addresses(&self, addresses: impl Iterator<Item = IpAddr>) -> Result<Place, NoPlace> {
        let share = self.share(DOMAIN_SHARE);
        let mut wanted: Vec<_> =
            addresses.map(|address| (Holder::Address(prefix_48(address)), share)).collect();
        // Several addresses of one /48 are one place.
        wanted.sort_by_key(|(holder, _)| format!("{holder:?}"));
        wanted.dedup();
        self.take_all(wanted)
    }

    fn share(&self, parts: usize) -> usize {
        (self.total / parts).max(2)
    }

    fn take_all(&self, wanted: Vec<(Holder, usize)>) -> Result<Place, NoPlace> {
        let mut held = lock(&self.held);
        if wanted.iter().any(|(holder, most)| held.get(holder).is_some_and(|count| count >= most)) {
            return Err(NoPlace);
        }
        let holders: Vec<Holder> = wanted.into_iter().map(|(holder, _)| holder).collect();
        for holder in &holders {
            *held.entry(holder.clone()).or_default() += 1;
        }
        Ok(Place { holders, held: self.held.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        for holder in &self.holders {
            if let Some(count) = held.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    held.remove(holder);
                }
            }
        }
    }
}

fn lock(held: &Mutex<HashMap<Holder, usize>>) -> MutexGuard<'_, HashMap<Holder, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever owns a host, as far as it can be told: its registrable domain, its IPv4 address, or the /48 of its IPv6
/// address.
pub fn owner_of(host: &str) -> String {
    let host = host_key(host);
    match host.parse() {
        Ok(address) => prefix_48(address).to_string(),
        Err(_) => registrable_domain(&host),
    }
}

/// An IPv4 address as it is, an IPv6 address cut to its /48.
fn prefix_48(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> ServerName {
        ServerName::parse(name).expect("a server name")
    }

    fn caller(address: &str) -> Network {
        Network::of(address.parse().expect("an address"))
    }

    /// How many of these requests get a place, all held.
    fn held(places: &Places, requests: impl Iterator<Item = (String, String)>) -> usize {
        let held: Vec<_> =
            requests.filter_map(|(name, from)| places.take(&server(&name), caller(&from)).ok()).collect();
        held.len()
    }

    #[test]
    fn one_domain_or_one_caller_gets_far_fewer_than_all_places() {
        let places = Places::new(256);
        let of_domain = |n: usize| (format!("hs{n}.evil.test:{}", n + 1), format!("192.0.2.{}", n % 256));
        assert_eq!(held(&places, (0..1000).map(of_domain)), 32);
        let of_caller = |n: usize| (format!("evil{n}.test"), "192.0.2.1".to_owned());
        assert_eq!(held(&places, (0..1000).map(of_caller)), 16);
        let of_network = |n: usize| (format!("evil{n}.test"), format!("2001:db8:0:{n:x}::1"));
        assert_eq!(held(&places, (0..1000).map(of_network)), 64);
        let of_all = |n: usize| (format!("evil{n}.test"), format!("192.0.{}.{}", n / 256, n % 256));
        assert_eq!(held(&places, (0..1000).map(of_all)), 256);
        assert!(lock(&places.held).is_empty(), "and all are free again");
    }

    #[test]
    fn an_address_has_its_share_whatever_names_lead_to_it() {
        let places = Places::new(64);
        let addresses = |n: u16| {
            let many = Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1);
            [IpAddr::V6(many), Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 2).into()]
        };
        let held: Vec<_> =
            (0..100).filter_map(|n| places.take_addresses(addresses(n).into_iter()).ok()).collect();
        assert_eq!(held.len(), 8);
    }

    #[test]
    fn the_owner_of_a_host_is_who_registered_it() {
        for (host, owner) in [
            ("a.b.Example.org:8448", "example.org"),
            ("192.0.2.1:1", "192.0.2.1"),
            ("[2001:db8:1:2::3]:4", "2001:db8:1::"),
            ("[::ffff:192.0.2.1]", "192.0.2.1"),
        ] {
            assert_eq!(owner_of(host), owner, "{host}");
        }
    }
}
