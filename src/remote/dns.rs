//! DNS: the addresses of a host, and the servers in its SRV records.
//!
//! The caller checks each address before it connects.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};

/// A resolver.
pub struct Dns(TokioResolver);

/// The target of an SRV record.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Dns {
    /// The resolver of this system, with its hosts file.
    ///
    /// # Errors
    /// If the system's configuration cannot be read.
    pub fn system() -> anyhow::Result<Self> {
        let resolver = TokioResolver::builder_tokio().context("cannot read /etc/resolv.conf")?;
        Ok(Self(resolver.build()?))
    }

    /// A resolver with one name server, for tests.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn asking(server: SocketAddr) -> anyhow::Result<Self> {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let servers = vec![NameServerConfig::new(server.ip(), true, vec![connection])];
        let config = ResolverConfig::from_name_servers(servers);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Ok(Self(builder.build()?))
    }

    /// The IPv6 and IPv4 addresses of `host`; empty if it has none or DNS does not answer.
    pub async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let found = self.0.lookup_ip(absolute(host)).await;
        found.map(|found| found.iter().collect()).unwrap_or_default()
    }

    /// The targets of the SRV records of `name` (RFC 2782), in the order to try them; `None` if it has no such
    /// record. A record whose target is the root means that there is no service: the list is empty.
    pub async fn services(&self, name: &str) -> Option<Vec<Service>> {
        let found = self.0.srv_lookup(absolute(name)).await.ok()?;
        let mut records: Vec<_> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some((srv.priority, srv.weight, srv.port, srv.target.to_ascii())),
                _ => None,
            })
            .collect();
        if records.is_empty() {
            return None;
        }
        // The greatest weight first, not at random: a few requests a day need no load balancing.
        records.sort_by_key(|(priority, weight, ..)| (*priority, std::cmp::Reverse(*weight)));
        let real = records.into_iter().filter(|(.., target)| target != ".");
        Some(
            real.map(|(_, _, port, host)| Service { host: host.trim_end_matches('.').to_owned(), port })
                .collect(),
        )
    }
}

/// The name with a final dot, so that no search list applies.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}
