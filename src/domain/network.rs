//! The network of a caller's IP address: limits and lookup budgets count by it and by the networks around it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// An IPv4 address, or the /64 of an IPv6 address: a client can use every address of its /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

/// What counts as one caller, the narrowest first. Providers give one customer a /56 or a /48 without asking.
const IPV6_PREFIXES: [u8; 3] = [64, 56, 48];
const IPV4_PREFIXES: [u8; 1] = [32];

impl Network {
    /// The network of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
        }
    }

    /// The first address of the network.
    pub fn address(self) -> IpAddr {
        self.0
    }

    /// This network and those around it that one customer of a provider may have, the narrowest first.
    pub fn and_around(self) -> impl DoubleEndedIterator<Item = IpNet> {
        let prefixes: &[u8] = if self.0.is_ipv4() { &IPV4_PREFIXES } else { &IPV6_PREFIXES };
        prefixes.iter().filter_map(move |prefix| Some(IpNet::new(self.0, *prefix).ok()?.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_leave_its_64() {
        let network = |text: &str| Network::of(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }

    #[test]
    fn a_customer_cannot_leave_its_48() {
        let around = |text: &str| {
            let network = Network::of(text.parse().expect("an address"));
            network.and_around().map(|network| network.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            around("2001:db8:7:1234::1"),
            ["2001:db8:7:1234::/64", "2001:db8:7:1200::/56", "2001:db8:7::/48"]
        );
        assert_eq!(around("192.0.2.1"), ["192.0.2.1/32"]);
    }
}
