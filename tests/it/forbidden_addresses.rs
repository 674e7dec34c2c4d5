//! Bindery never dials special-purpose addresses, however a stranger's server name leads to them: as a literal,
//! through the DNS, a delegation, an SRV record or a redirect.
//!
//! In each test a homeserver listens at the address and would answer, so only the refusal keeps Bindery from
//! asking it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use serde_json::json;

use crate::support::{
    Reply, Server,
    homeserver::{Answer, Homeserver, unused_address},
    network::{Network, OTHER_PORT, PORTS, WELL_KNOWN, server_allowed},
};

/// A homeserver `hs.test` at `home` whose certificate is valid for any name, and the server under test. Of the
/// special-purpose addresses it may dial only the given ones.
fn beside_forbidden(network: &Network, port: u16, allowed: &[Ipv4Addr]) -> Server {
    let home = network.home.to_string();
    let names = [&home, "127.0.0.1", "::1", "hs.test", "matrix.test", "sub.hs.test"];
    let homeserver = network.put((network.home, port), &names, "hs.test");
    let allowed: Vec<String> = allowed.iter().map(|address| format!("{address}/32")).collect();
    server_allowed(homeserver, &allowed)
}

/// Registers a user of `name`; the homeserver would confirm the token.
async fn register(server: &Server, name: &str) -> Reply {
    let token = server.homeserver.openid_token(&format!("@alice:{name}"));
    server.register_with(name, &token).await
}

#[track_caller]
fn unreachable(reply: Reply, name: &str) {
    let words = format!("The homeserver {name} could not be reached; try again later");
    assert_eq!(reply.refused(502, "M_UNKNOWN"), json!({ "errcode": "M_UNKNOWN", "error": words }));
}

#[track_caller]
fn untouched(homeserver: &Homeserver) {
    assert_eq!(homeserver.connections(), 0);
}

/// IPv4 addresses as IPv6 addresses: mapped, compatible, NAT64, local NAT64, 6to4, Teredo.
fn disguises(address: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    vec![
        address.to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, !high, !low),
    ]
}

#[tokio::test]
async fn a_literal() {
    let network = Network::new();
    let server = beside_forbidden(&network, OTHER_PORT, &[]);
    let mut names = vec![format!("{}:{OTHER_PORT}", network.home), network.home.to_string()];
    for address in disguises(network.home) {
        names.push(format!("[{address}]:{OTHER_PORT}"));
    }
    for name in ["0.0.0.0", "[::]", "[::1]", "[::ffff:0:0]"] {
        names.push(format!("{name}:{OTHER_PORT}"));
    }
    for name in names {
        unreachable(register(&server, &name).await, &name);
    }
    untouched(&server.homeserver);
}

#[tokio::test]
async fn an_address_in_the_dns() {
    let network = Network::new();
    let server = beside_forbidden(&network, OTHER_PORT, &[]);
    let mut addresses = vec![IpAddr::V4(network.home), IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    addresses.extend(disguises(network.home).into_iter().map(IpAddr::V6));
    addresses.extend([IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]);
    for (number, address) in addresses.into_iter().enumerate() {
        let host = format!("hs{number}.test");
        network.dns.address(&host, address);
        let name = format!("{host}:{OTHER_PORT}");
        unreachable(register(&server, &name).await, &name);
        assert!(network.dns.asked().contains(&format!("A {host}")), "it was looked up");
    }
    // The DNS has no records for the names of this machine.
    for name in ["localhost", "hs.localhost"] {
        let name = format!("{name}:{OTHER_PORT}");
        unreachable(register(&server, &name).await, &name);
    }
    untouched(&server.homeserver);
}

#[tokio::test]
async fn the_default_port() {
    let network = Network::new();
    let site = network.put((network.home, PORTS.https), &["hs.test"], "hs.test");
    network.dns.address("hs.test", network.home);
    let server = beside_forbidden(&network, PORTS.federation, &[]);
    unreachable(register(&server, "hs.test").await, "hs.test");
    untouched(&site);
    untouched(&server.homeserver);
}

#[tokio::test]
async fn one_that_is_among_others() {
    let network = Network::new();
    let server = beside_forbidden(&network, OTHER_PORT, &[network.home]);
    let traps: Vec<_> = (0..4)
        .map(|_| {
            let address = unused_address();
            network.dns.address("hs.test", address);
            network.put((address, OTHER_PORT), &["hs.test"], "hs.test")
        })
        .collect();
    network.dns.address("hs.test", network.home);
    let name = format!("hs.test:{OTHER_PORT}");
    register(&server, &name).await.ok();
    assert_eq!(server.homeserver.connections(), 1);
    traps.iter().for_each(untouched);
}

#[tokio::test]
async fn an_srv_record() {
    let network = Network::new();
    let server = beside_forbidden(&network, OTHER_PORT, &[network.web]);
    network.dns.address("hs.test", network.web);
    network.dns.srv("_matrix-fed._tcp.hs.test", 0, OTHER_PORT, "node.test");
    network.dns.address("node.test", network.home);
    unreachable(register(&server, "hs.test").await, "hs.test");
    // An SRV target that looks like an address does not evade the rule.
    network.dns.address("sub.hs.test", network.web);
    network.dns.srv("_matrix-fed._tcp.sub.hs.test", 0, OTHER_PORT, &network.home.to_string());
    unreachable(register(&server, "sub.hs.test").await, "sub.hs.test");
    untouched(&server.homeserver);
}

#[tokio::test]
async fn a_delegation() {
    let network = Network::new();
    let site = network.site(&["hs.test"]);
    let server = beside_forbidden(&network, OTHER_PORT, &[network.web]);
    network.dns.address("matrix.test", network.home);
    network.dns.srv("_matrix-fed._tcp.sub.hs.test", 0, OTHER_PORT, "matrix.test");
    let places = [
        format!("{}:{OTHER_PORT}", network.home),
        format!("[{}]:{OTHER_PORT}", network.home.to_ipv6_mapped()),
        format!("matrix.test:{OTHER_PORT}"),
        "sub.hs.test".to_owned(),
        format!("localhost:{OTHER_PORT}"),
    ];
    for place in &places {
        let header = "no-store".to_owned();
        let body = json!({ "m.server": place }).to_string().into_bytes();
        site.answer(WELL_KNOWN, Answer::Raw(200, "cache-control", header, body));
        unreachable(register(&server, "hs.test").await, "hs.test");
    }
    assert_eq!(site.times_asked(WELL_KNOWN), places.len());
    untouched(&server.homeserver);
}

#[tokio::test]
async fn a_redirect() {
    let network = Network::new();
    let site = network.site(&["hs.test"]);
    let server = beside_forbidden(&network, OTHER_PORT, &[network.web]);
    network.dns.address("matrix.test", network.home);
    let delegation = json!({ "m.server": format!("hs.test:{}", PORTS.https) });
    server.homeserver.answer("/elsewhere", Answer::Json(200, delegation));
    let places = [
        network.home.to_string(),
        format!("[{}]", network.home.to_ipv6_mapped()),
        "matrix.test".to_owned(),
        // The URL standard reads this as an address.
        format!("0x{:x}", u32::from(network.home)),
    ];
    for place in &places {
        let location = format!("https://{place}:{OTHER_PORT}/elsewhere");
        site.answer(WELL_KNOWN, Answer::Raw(302, "location", location, Vec::new()));
        unreachable(register(&server, "hs.test").await, "hs.test");
        server.clock.forward(Duration::from_secs(7200));
    }
    assert_eq!(site.times_asked(WELL_KNOWN), places.len());
    untouched(&server.homeserver);
}
