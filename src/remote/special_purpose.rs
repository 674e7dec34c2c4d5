//! The filter against SSRF: Bindery never connects to a special-purpose address because of a stranger's server
//! name. These are loopback, private networks, link-local, documentation, multicast, and every way to write such
//! an IPv4 address inside an IPv6 one (IANA special-purpose address registries, RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether Bindery may connect to `address`: it is globally reachable, or in a network that the operator
/// excepted.
pub fn is_allowed(address: IpAddr, exceptions: &[IpNet]) -> bool {
    let plain = address.to_canonical();
    exceptions.iter().any(|net| net.contains(&address) || net.contains(&plain)) || is_global(address)
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded =
        |high: u16, low: u16| is_global_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match (a, b) {
        // NAT64 (RFC 6052): the last 32 bits are the IPv4 address.
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && embedded(g, h),
        // 6to4 (RFC 3056): the 32 bits after the prefix are.
        (0x2002, _) => embedded(b, c),
        // Teredo, ORCHID and the rest of the protocol assignments; documentation.
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        (0x3fff, 0..=0xfff) => false,
        // Everything globally routed is in 2000::/3; mapped and compatible addresses are not.
        _ => (0x2000..=0x3fff).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_in_every_disguise_are_refused() {
        let refused = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2001:0:1::1",
            "2001:db8::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ];
        for text in refused {
            let address: IpAddr = text.parse().expect("an address");
            assert!(!is_allowed(address, &[]), "{text} is allowed");
        }
    }

    #[test]
    fn global_addresses_and_exceptions_are_allowed() {
        for text in
            ["9.9.9.9", "172.32.0.1", "100.128.0.1", "2620:fe::fe", "64:ff9b::909:909", "2002:909:909::1"]
        {
            let address: IpAddr = text.parse().expect("an address");
            assert!(is_allowed(address, &[]), "{text} is not allowed");
        }
        let exceptions = ["127.0.0.0/8".parse().expect("a network")];
        for text in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert!(is_allowed(text.parse().expect("an address"), &exceptions), "{text} is not allowed");
        }
        assert!(!is_allowed("10.0.0.1".parse().expect("an address"), &exceptions));
    }
}
