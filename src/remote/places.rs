//! The places for requests to other servers: how many may run at once, in all and for one holder.
//!
//! A request that gets no place is refused at once. A queue would let a stranger whose server never answers make
//! everybody wait.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::standing::Standing;
use crate::domain::{
    network::Network,
    registrable::registrable_domain,
    server_name::{ServerName, host_key},
};

/// The share of one registrable domain, and of one caller, of the half for their standing. Somebody who wants all of the
/// half needs many of both.
const DOMAIN_SHARE: usize = 8;
const CALLER_SHARE: usize = 16;
/// A stranger gets a /48 as easily as a /64. It may hold this many times the places of a /64.
const WIDE_NETWORK: usize = 4;
/// The part of a domain's share that one caller's IPv4 address or /48 gets. Somebody who names hosts of a domain that
/// never answer needs so many networks to hold up its users. Nobody makes up proven names, and the users of one homeserver
/// may share an address: eight of them come together.
const CALLER_PART_PROVEN: usize = 2;
const CALLER_PART_UNPROVEN: usize = 16;

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
    /// The IPv4 address or the /48 of the caller, for requests to one domain.
    CallerAt(String, IpAddr),
    /// The address that is dialled, or its /48.
    Address(IpAddr),
}

/// How many places each holder has; those for proven names and for others are apart.
type Counts = HashMap<(Standing, Holder), usize>;
type Held = Arc<Mutex<Counts>>;

/// The places of one kind of request.
#[derive(Clone)]
pub struct Places {
    total: usize,
    held: Held,
}

/// A place of each holder. Dropping it frees them.
#[must_use]
pub struct Place {
    holders: Vec<(Standing, Holder)>,
    held: Held,
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
    ///
    /// Proven names and others have half of all places each, and a share each in every domain and for every caller. So
    /// names that strangers make up, such as `example.org:1`, take no place from the homeserver of example.org.
    pub fn take(&self, server: &ServerName, standing: Standing, caller: Network) -> Result<Place, NoPlace> {
        let half = (self.total / 2).max(1);
        let (of_domain, of_caller) = (share(half, DOMAIN_SHARE), share(half, CALLER_SHARE));
        let caller_part = match standing {
            Standing::Proven => CALLER_PART_PROVEN,
            Standing::Unproven => CALLER_PART_UNPROVEN,
        };
        let (domain, wide) = (owner_of(server.as_str()), prefix_48(caller.address()));
        let mut wanted = vec![
            (Holder::All, half),
            (Holder::CallerAt(domain.clone(), wide), (of_domain / caller_part).max(1)),
            (Holder::Domain(domain), of_domain),
            (Holder::Caller(caller), of_caller),
        ];
        if caller.address().is_ipv6() {
            wanted.push((Holder::WideCaller(wide), WIDE_NETWORK * of_caller));
        }
        self.take_all(standing, wanted)
    }

    /// A place for a connection that may dial each of the given addresses, for an unproven name. Those that have no place
    /// left are left out: others may have filled an address to which this name leads, too.
    ///
    /// Many homeservers share the addresses of a content delivery network, where anybody can be a customer. So proven
    /// names need no such place: the share of their domain bounds them. And the share of an address is larger than what
    /// all requests for the unproven names of one domain can hold: three domains are needed to fill it.
    pub fn take_addresses(&self, addresses: &[SocketAddr]) -> Result<(Place, Vec<SocketAddr>), NoPlace> {
        let most = share(self.total, DOMAIN_SHARE);
        let holder = |address: &SocketAddr| (Standing::Unproven, Holder::Address(prefix_48(address.ip())));
        let mut held = lock(&self.held);
        let mut free = addresses.to_vec();
        free.retain(|address| held.get(&holder(address)).is_none_or(|count| *count < most));
        if free.is_empty() {
            return Err(NoPlace);
        }
        // Several addresses of one /48 are one place.
        let holders: HashSet<_> = free.iter().map(holder).collect();
        Ok((self.hold(&mut held, holders.into_iter().collect()), free))
    }

    fn take_all(&self, standing: Standing, wanted: Vec<(Holder, usize)>) -> Result<Place, NoPlace> {
        let wanted: Vec<_> = wanted.into_iter().map(|(holder, most)| ((standing, holder), most)).collect();
        let mut held = lock(&self.held);
        if wanted.iter().any(|(holder, most)| held.get(holder).is_some_and(|count| count >= most)) {
            return Err(NoPlace);
        }
        Ok(self.hold(&mut held, wanted.into_iter().map(|(holder, _)| holder).collect()))
    }

    fn hold(&self, held: &mut Counts, holders: Vec<(Standing, Holder)>) -> Place {
        for holder in &holders {
            *held.entry(holder.clone()).or_default() += 1;
        }
        Place { holders, held: self.held.clone() }
    }
}

fn share(places: usize, parts: usize) -> usize {
    (places / parts).max(2)
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

fn lock(held: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
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
pub(super) fn prefix_48(address: IpAddr) -> IpAddr {
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

    /// The places of those of these requests that get one. Each is a name and a caller.
    fn take(
        places: &Places,
        standing: Standing,
        requests: impl Iterator<Item = (String, String)>,
    ) -> Vec<Place> {
        let place =
            |(name, from): (String, String)| places.take(&server(&name), standing, caller(&from)).ok();
        requests.filter_map(place).collect()
    }

    #[test]
    fn one_domain_or_one_caller_gets_far_fewer_than_all_places() {
        let places = Places::new(256);
        let of_domain = |n: usize| (format!("hs{n}.evil.test:{}", n + 1), format!("192.0.2.{}", n % 256));
        let of_caller = |n: usize| (format!("evil{n}.test"), "192.0.2.1".to_owned());
        let of_network = |n: usize| (format!("evil{n}.test"), format!("2001:db8:0:{n:x}::1"));
        let of_all = |n: usize| (format!("evil{n}.test"), format!("192.0.{}.{}", n / 256, n % 256));
        for standing in [Standing::Proven, Standing::Unproven] {
            let held = |request: &dyn Fn(usize) -> (String, String)| {
                take(&places, standing, (0..1000).map(request)).len()
            };
            assert_eq!(held(&of_domain), 16);
            assert_eq!(held(&of_caller), 8);
            assert_eq!(held(&of_network), 32);
            assert_eq!(held(&of_all), 128, "the other half is for the others");
        }
        assert!(lock(&places.held).is_empty(), "and all are free again");
    }

    #[test]
    fn eight_domains_are_needed_to_fill_a_half_whatever_the_number_of_places() {
        for total in [64, 102, 128, 256] {
            let places = Places::new(total);
            let request = |n: usize| (format!("evil{}.test", n % 7), format!("192.0.2.{}", n % 256));
            for standing in [Standing::Proven, Standing::Unproven] {
                let _held = take(&places, standing, (0..5000).map(request));
                let other = places.take(&server("example.org"), standing, caller("198.51.100.1"));
                assert!(other.is_ok(), "{total} {standing:?}");
            }
        }
    }

    #[test]
    fn one_caller_gets_half_of_a_domains_share_and_a_sixteenth_for_unproven_names() {
        let places = Places::new(256);
        for (standing, most) in [(Standing::Proven, 8), (Standing::Unproven, 1)] {
            for from in ["192.0.2.1".to_owned(), "2001:db8:7:{n}::1".to_owned()] {
                let request = |n: usize| {
                    let name = format!("hs{n}.example.org:{}", n + 1);
                    (name, from.replace("{n}", &format!("{n:x}")))
                };
                assert_eq!(take(&places, standing, (0..100).map(request)).len(), most, "{from}");
            }
        }
    }

    #[test]
    fn names_that_strangers_make_up_hold_up_no_user_of_the_domain() {
        let places = Places::new(256);
        let junk = |from: String, n: usize| {
            let names = [format!("example.org:{}", n + 1), format!("x{n}.example.org")];
            names.map(|name| (name, from.clone()))
        };
        let alice = || places.take(&server("example.org"), Standing::Proven, caller("198.51.100.1"));
        let first = || places.take(&server("new.example.org"), Standing::Unproven, caller("198.51.100.1"));
        let from = |network: usize| (0..100).flat_map(move |n| junk(format!("192.0.2.{network}"), n));
        let fifteen = take(&places, Standing::Unproven, (0..15).flat_map(from));
        assert_eq!(fifteen.len(), 15);
        assert!(alice().is_ok() && first().is_ok(), "fifteen networks are too few");
        let many = take(&places, Standing::Unproven, (15..100).flat_map(from));
        assert_eq!(many.len(), 1);
        assert!(first().is_err());
        assert!(alice().is_ok(), "whatever the number of networks");
        let four = (0..4).flat_map(|network| (0..100).map(move |n| (n, network)));
        let four =
            four.map(|(n, network)| (format!("x{n}.other.org"), format!("2001:db8:{network}:{n:x}::1")));
        assert_eq!(take(&places, Standing::Unproven, four).len(), 4);
    }

    #[test]
    fn a_domain_at_the_address_of_many_leaves_room_to_the_others() {
        // As `Fetch` and `RemoteHomeservers` have them.
        let [addresses, of_owners, of_keys] = [512, 256, 128].map(Places::new);
        let of_domain = || (0..1000).map(|n| (format!("hs{n}.evil.test"), format!("192.0.2.{}", n % 256)));
        let held = [&of_owners, &of_keys].map(|places| take(places, Standing::Unproven, of_domain()));
        let network = [SocketAddr::from(([203, 0, 113, 1], 443))];
        let evil = held.iter().flatten().map(|_| addresses.take_addresses(&network));
        let evil: Vec<_> = evil.collect::<Result<_, _>>().expect("fewer than the share of an address");
        assert_eq!(evil.len(), 24, "of 64");
        assert!(addresses.take_addresses(&network).is_ok());
    }

    #[test]
    fn an_address_has_its_share_whatever_names_lead_to_it() {
        let places = Places::new(64);
        let addresses = |n: u16| {
            let many = Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1);
            [many, Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 2)].map(|one| SocketAddr::from((one, 443)))
        };
        let held: Vec<_> = (0..100).filter_map(|n| places.take_addresses(&addresses(n)).ok()).collect();
        assert_eq!(held.len(), 8);
    }

    #[test]
    fn an_address_that_others_have_filled_leaves_a_name_its_other_addresses() {
        let places = Places::new(64);
        let [full, free] = [1, 2].map(|n| SocketAddr::from(([192, 0, 2, n], 443)));
        let _evil: Vec<_> = (0..8).map(|_| places.take_addresses(&[full]).expect("a place")).collect();
        let (place, dialled) = places.take_addresses(&[full, free]).expect("one of them has places");
        assert_eq!(dialled, [free]);
        assert!(places.take_addresses(&[full]).is_err());
        drop(place);
        assert!(!lock(&places.held).contains_key(&(Standing::Unproven, Holder::Address(free.ip()))));
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
