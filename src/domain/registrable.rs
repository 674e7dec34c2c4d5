//! The domain that somebody had to register for a homeserver's name. Limits and budgets count by it, because
//! names below it cost nothing.

use std::net::IpAddr;

use psl::{List, Psl, Type};

use super::{network::Network, server_name::host_key};

/// What a homeserver's name counts as: the registrable domain of its host, in lower case and without the port.
/// An IPv4 address counts as itself, an IPv6 address as its /48.
pub fn registrable_domain(server_name: &str) -> String {
    let host = host_key(server_name);
    if let Ok(address) = host.parse::<IpAddr>() {
        let widest = Network::of(address).and_around().last();
        return widest.map_or(host, |network| network.to_string());
    }
    let suffix = suffix_of_registry(&host);
    let labels_before = &host[..host.len() - suffix.len()];
    let labels_before = labels_before.strip_suffix('.').unwrap_or(labels_before);
    let label = labels_before.rsplit('.').next().unwrap_or_default();
    match label {
        // The host is itself a suffix.
        "" => host,
        label => format!("{label}.{suffix}"),
    }
}

/// The longest suffix under which a registry sells names. Suffixes of hosters and dynamic DNS services (the private
/// section of the list) do not count: they give names away.
fn suffix_of_registry(host: &str) -> &str {
    let mut rest = host;
    loop {
        let suffix = List.suffix(rest.as_bytes());
        let length = suffix.as_ref().map_or(rest.len(), |suffix| suffix.as_bytes().len());
        let found = &rest[rest.len() - length..];
        let is_private = suffix.is_some_and(|suffix| suffix.typ() == Some(Type::Private));
        match found.split_once('.') {
            Some((_, parent)) if is_private => rest = parent,
            _ => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cost_nothing_count_as_one() {
        for (name, counted) in [
            ("evil.example", "evil.example"),
            ("a.evil.example", "evil.example"),
            ("A.b.Evil.example:8448", "evil.example"),
            ("matrix.example.co.uk", "example.co.uk"),
            ("example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("a.duckdns.org", "duckdns.org"),
            ("b.duckdns.org:1", "duckdns.org"),
            ("duckdns.org", "duckdns.org"),
            ("hs.user.github.io", "github.io"),
            ("localhost", "localhost"),
            ("hs.xn--p1ai", "hs.xn--p1ai"),
            ("a.hs.xn--p1ai", "hs.xn--p1ai"),
            ("192.0.2.1:8448", "192.0.2.1/32"),
            ("[2001:db8:7::1]", "2001:db8:7::/48"),
            ("[2001:db8:7:9::2]:8448", "2001:db8:7::/48"),
            ("", ""),
            (".", "."),
            ("..", ".."),
        ] {
            assert_eq!(registrable_domain(name), counted, "{name}");
        }
    }
}
