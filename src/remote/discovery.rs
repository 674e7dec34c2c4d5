//! From a server name to the places to connect to (specification, Server-Server API, "Resolving
//! server names").
//!
//! Every address, also of a delegated name, an SRV target or a redirect, is checked against the
//! special-purpose ranges before anything is sent to it.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use reqwest::{
    StatusCode, Url,
    header::{CACHE_CONTROL, HeaderMap, LOCATION},
};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    dns::{Dns, Service},
    fetch::{Fetch, Request, Target},
    special_purpose::may_call,
};
use crate::domain::{
    clock::Clock,
    server_name::{Host, ServerName},
    time::{HOUR, Millis},
};

/// The ports of the protocol. Tests use others, since low ones need privileges.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Where `.well-known` is served.
    pub https: u16,
    /// Where homeservers are without anything else being said.
    pub federation: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { https: 443, federation: 8448 }
    }
}

const MAX_REDIRECTS: usize = 5;
const MAX_WELL_KNOWN: usize = 50 * 1024;
/// The times for which a `.well-known` answer is remembered, as the specification recommends.
const REMEMBER_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const REMEMBER_MOST: Duration = Duration::from_secs(48 * 3600);
/// A failure is remembered shortly at first and longer each time, up to an hour.
const FAILURE_FIRST: Duration = Duration::from_secs(60);
/// How many hosts are remembered; one is forgotten for each beyond.
const REMEMBER_HOSTS: usize = 4096;
/// How many SRV targets and addresses are tried.
const MAX_TARGETS: usize = 4;

/// What a host's `.well-known` said, and until when that is good.
struct Remembered {
    delegated: Option<ServerName>,
    until: Millis,
    failures: u32,
}

/// The way from names to places.
pub struct Discovery {
    fetch: Arc<Fetch>,
    dns: Dns,
    exceptions: Vec<IpNet>,
    ports: Ports,
    clock: Arc<dyn Clock>,
    patience: Duration,
    well_known: Mutex<HashMap<String, Remembered>>,
}

impl Discovery {
    /// `exceptions` are the special networks that may be called all the same; `patience` is how long
    /// a whole question may take, of which `.well-known` gets a part.
    pub fn new(
        fetch: Arc<Fetch>,
        dns: Dns,
        exceptions: Vec<IpNet>,
        ports: Ports,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Self {
        Self { fetch, dns, exceptions, ports, clock, patience, well_known: Mutex::default() }
    }

    /// The places where `name` answers, to be tried in order; empty if there is none that may be
    /// called.
    pub async fn targets(&self, name: &ServerName) -> Vec<Target> {
        if let Some(target) = self.explicit(name).await {
            return vec![target];
        }
        // Only a DNS name without a port is left.
        let Host::Dns(host) = name.host() else { return Vec::new() };
        match self.delegated(host).await {
            Some(delegated) => match (self.explicit(&delegated).await, delegated.host()) {
                (Some(target), _) => vec![target],
                (None, Host::Dns(host)) => self.by_srv(host).await,
                (None, Host::Ip(_)) => Vec::new(),
            },
            None => self.by_srv(host).await,
        }
    }

    /// Steps 1, 2, 3.1 and 3.2: an address literal or an explicit port leave nothing to discover.
    async fn explicit(&self, name: &ServerName) -> Option<Target> {
        let (tls_name, addresses) = match (name.host(), name.port()) {
            (Host::Ip(address), _) => (literal(*address), vec![*address]),
            (Host::Dns(host), Some(_)) => (host.clone(), self.dns.addresses(host).await),
            (Host::Dns(_), None) => return None,
        };
        let port = name.port().unwrap_or(self.ports.federation);
        Some(Target {
            tls_name,
            host_header: name.to_string(),
            port,
            addresses: self.checked(addresses, port),
        })
    }

    /// Steps 3.3 to 6: SRV records, the current name first, then the port 8448.
    async fn by_srv(&self, host: &str) -> Vec<Target> {
        let mut services = self.dns.services(&format!("_matrix-fed._tcp.{host}")).await;
        if services.is_none() {
            services = self.dns.services(&format!("_matrix._tcp.{host}")).await;
        }
        let own = || vec![Service { host: host.to_owned(), port: self.ports.federation }];
        let mut targets = Vec::new();
        for Service { host: target, port } in services.unwrap_or_else(own).into_iter().take(MAX_TARGETS) {
            let addresses = self.checked(self.dns.addresses(&target).await, port);
            targets.push(Target { tls_name: host.to_owned(), host_header: host.to_owned(), port, addresses });
        }
        targets
    }

    /// Those addresses that may be called.
    fn checked(&self, addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
        let allowed = addresses.into_iter().filter(|address| may_call(*address, &self.exceptions));
        allowed.take(MAX_TARGETS).map(|address| SocketAddr::new(address, port)).collect()
    }

    /// Step 3: the name that `host` delegates to, remembered as long as it allows.
    async fn delegated(&self, host: &str) -> Option<ServerName> {
        let host = host.to_ascii_lowercase();
        let host = host.as_str();
        let now = self.clock.now();
        let failures_before = {
            let known = self.well_known.lock().unwrap_or_else(PoisonError::into_inner);
            match known.get(host) {
                Some(known) if now < known.until => return known.delegated.clone(),
                Some(known) => known.failures,
                None => 0,
            }
        };
        // A web site that says nothing must leave time to find the homeserver without it.
        let answer = timeout(self.patience / 2, self.fetch_well_known(host)).await.ok().flatten();
        let remembered = match &answer {
            Some((delegated, time)) => {
                Remembered { delegated: Some(delegated.clone()), until: now.after(*time), failures: 0 }
            }
            None => {
                let wait = FAILURE_FIRST.saturating_mul(1 << failures_before.min(6)).min(HOUR);
                Remembered {
                    delegated: None,
                    until: now.after(wait),
                    failures: failures_before.saturating_add(1),
                }
            }
        };
        let mut known = self.well_known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBER_HOSTS && !known.contains_key(host) {
            let soonest = known.iter().min_by_key(|(_, known)| known.until).map(|(host, _)| host.clone());
            soonest.and_then(|host| known.remove(&host));
        }
        known.insert(host.to_owned(), remembered);
        answer.map(|(delegated, _)| delegated)
    }

    /// Asks for `.well-known/matrix/server`, following redirects to other HTTPS URLs.
    async fn fetch_well_known(&self, host: &str) -> Option<(ServerName, Duration)> {
        let start = format!("https://{host}:{}/.well-known/matrix/server", self.ports.https);
        let mut url = Url::parse(&start).ok()?;
        for _ in 0..=MAX_REDIRECTS {
            let target = self.target_of(&url).await?;
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            let path = format!("{}{query}", url.path());
            let response = self.fetch.send(&target, &Request::get(&path), MAX_WELL_KNOWN).await.ok()?;
            if response.status.is_redirection() {
                url = url.join(response.headers.get(LOCATION)?.to_str().ok()?).ok()?;
                continue;
            }
            if response.status != StatusCode::OK {
                return None;
            }
            let body: Value = serde_json::from_slice(&response.body).ok()?;
            let delegated = ServerName::parse(body.get("m.server")?.as_str()?)?;
            return Some((delegated, lifetime(&response.headers)));
        }
        None
    }

    /// Where an HTTPS URL leads to.
    async fn target_of(&self, url: &Url) -> Option<Target> {
        if url.scheme() != "https" || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = url.host_str()?;
        let port = url.port_or_known_default()?;
        let host_header = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let addresses = match ServerName::parse(host)?.host() {
            Host::Ip(address) => vec![*address],
            Host::Dns(host) => self.dns.addresses(host).await,
        };
        Some(Target {
            tls_name: host.to_owned(),
            host_header,
            port,
            addresses: self.checked(addresses, port),
        })
    }
}

/// An address as it stands in a URL.
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// How long an answer may be remembered, from its `Cache-Control` (RFC 9111).
fn lifetime(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(CACHE_CONTROL).into_iter().filter_map(|value| value.to_str().ok());
    let directives: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let forbids =
        |name: &&str| name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache");
    if directives.iter().any(forbids) {
        return Duration::ZERO;
    }
    let ages = directives.iter().filter_map(|directive| directive.split_once('='));
    let mut ages = ages.filter(|(name, _)| name.eq_ignore_ascii_case("max-age"));
    let seconds = ages.find_map(|(_, seconds)| seconds.trim_matches('"').parse().ok());
    seconds.map_or(REMEMBER_DEFAULT, |seconds| Duration::from_secs(seconds).min(REMEMBER_MOST))
}
