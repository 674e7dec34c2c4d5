//! A little internet on loopback: one authority, one name server, and two addresses at which
//! HTTPS servers can be put, all at the ports that the server under test is told to use.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bindery::{config::Config, remote::discovery::Ports};
use serde_json::json;

use super::{
    Server,
    dns::DnsDouble,
    homeserver::{Answer, Homeserver, unused_address},
    tls::Authority,
};

/// The ports of the protocol, as the server under test knows them.
pub const PORTS: Ports = Ports { https: 18443, federation: 18448 };
/// A port that nobody knows without being told.
pub const OTHER_PORT: u16 = 18999;
/// Where a delegation is published.
pub const WELL_KNOWN: &str = "/.well-known/matrix/server";

/// The little internet.
pub struct Network {
    pub dns: DnsDouble,
    /// Where web sites are.
    pub web: Ipv4Addr,
    /// Where homeservers are.
    pub home: Ipv4Addr,
    authority: Arc<Authority>,
}

impl Network {
    pub fn new() -> Self {
        let authority = Arc::new(Authority::new());
        Self { dns: DnsDouble::start(), web: unused_address(), home: unused_address(), authority }
    }

    /// Puts an HTTPS server at `place`, with a certificate for `names`, as the homeserver `name`.
    pub fn put(&self, place: impl Into<SocketAddr>, names: &[&str], name: &str) -> Homeserver {
        let homeserver =
            Homeserver::start_at(self.authority.clone(), place.into(), names, |_| name.to_owned());
        homeserver.behind_dns(self.dns.address, PORTS)
    }

    /// Puts a web site for these hosts at [`Network::web`].
    pub fn site(&self, hosts: &[&str]) -> Homeserver {
        for host in hosts {
            self.dns.address(host, self.web);
        }
        self.put((self.web, PORTS.https), hosts, hosts[0])
    }

    /// Puts a web site for `host` that delegates to `server`.
    pub fn delegate(&self, host: &str, server: &str) -> Homeserver {
        let site = self.site(&[host]);
        site.answer(WELL_KNOWN, Answer::Json(200, json!({ "m.server": server })));
        site
    }
}

/// Starts a server under test that resolves names in this network.
pub fn server_beside(homeserver: Homeserver) -> Server {
    Server::start_for(homeserver, |_| {})
}

/// As [`server_beside`], but only these networks may be called of those that are special.
pub fn server_allowed(homeserver: Homeserver, networks: &[String]) -> Server {
    let networks = networks.iter().map(|network| network.parse().expect("a network")).collect();
    Server::start_for(homeserver, |config: &mut Config| {
        config.homeservers.allowed_special_addresses = networks;
    })
}
