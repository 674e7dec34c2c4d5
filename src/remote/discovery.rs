//! From a server name to the places to connect to (specification, Server-Server API, "Resolving
//! server names").
//!
//! Every address, also of a delegated name, an SRV target or a redirect, is checked against the
//! special-purpose ranges before anything is sent to it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
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
    cache::AnswerCache,
    dns::{Dns, Service},
    fetch::{Fetch, FetchError, Request, Response, Target},
    special_purpose::is_allowed,
    standing::Standing,
};
use crate::domain::{
    backoff::Backoff,
    clock::Clock,
    server_name::{Host, ServerName},
    time::HOUR,
};

/// The ports of the protocol. Tests use others, since low ones need privileges.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The port that serves `.well-known`.
    pub https: u16,
    /// The port of a homeserver that names no other.
    pub federation: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { https: 443, federation: 8448 }
    }
}

const MAX_REDIRECTS: usize = 5;
const MAX_WELL_KNOWN_BYTES: usize = 50 * 1024;
/// How long a `.well-known` answer is cached if it does not say, as the specification recommends.
const DEFAULT_WELL_KNOWN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The longest time that an answer is cached, whatever it says (specification).
pub const MAX_WELL_KNOWN_LIFETIME: Duration = Duration::from_secs(48 * 3600);
/// How long a failure is cached.
const WELL_KNOWN_BACKOFF: Backoff = Backoff { first: Duration::from_secs(60), cap: HOUR };
/// An answer takes less than 1 KiB, since server names are short. So all take at most 4 MiB.
const MAX_CACHED_HOSTS: usize = 4096;
/// The most SRV targets that are tried, and the most addresses of each.
const MAX_TARGETS: usize = 4;

/// A host did not delegate: its `.well-known` failed, or named no server.
#[derive(Clone, Copy)]
struct NotDelegated;

/// Finds out where a homeserver listens.
pub struct Discovery {
    fetch: Arc<Fetch>,
    dns: Arc<Dns>,
    exceptions: Vec<IpNet>,
    ports: Ports,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    well_known: AnswerCache<ServerName, NotDelegated>,
}

impl Discovery {
    /// `exceptions` are the special-purpose networks that the operator allows. `timeout` bounds a whole
    /// request to a homeserver; `.well-known` gets half of it.
    pub fn new(
        fetch: Arc<Fetch>,
        dns: Arc<Dns>,
        exceptions: Vec<IpNet>,
        ports: Ports,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Self {
        let well_known = AnswerCache::new(MAX_CACHED_HOSTS, WELL_KNOWN_BACKOFF);
        Self { fetch, dns, exceptions, ports, clock, timeout, well_known }
    }

    /// The places to connect to for `name`, in the order to try them; empty if Bindery may connect to none. `standing`
    /// is that of the name.
    ///
    /// # Errors
    /// [`FetchError::Busy`] if too many requests go to its web site.
    pub async fn targets(&self, name: &ServerName, standing: Standing) -> Result<Vec<Target>, FetchError> {
        if let Some(target) = self.explicit(name).await {
            return Ok(vec![target]);
        }
        // Only a DNS name without a port is left.
        let Host::Dns(host) = name.host() else { return Ok(Vec::new()) };
        Ok(match self.delegated(host, standing).await? {
            Some(delegated) => match (self.explicit(&delegated).await, delegated.host()) {
                (Some(target), _) => vec![target],
                (None, Host::Dns(host)) => self.by_srv(host).await,
                (None, Host::Ip(_)) => Vec::new(),
            },
            None => self.by_srv(host).await,
        })
    }

    /// Steps 1, 2, 3.1 and 3.2: a name with an address literal or an explicit port needs no discovery.
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
            addresses: self.allowed(addresses, port),
        })
    }

    /// Steps 3.3 to 6: SRV records, the current name first, then the port 8448.
    async fn by_srv(&self, host: &str) -> Vec<Target> {
        let (name, old_name) = (format!("_matrix-fed._tcp.{host}"), format!("_matrix._tcp.{host}"));
        let services = self.dns.services(&name, &old_name).await;
        let own = || vec![Service { host: host.to_owned(), port: self.ports.federation }];
        let mut targets = Vec::new();
        for Service { host: target, port } in services.unwrap_or_else(own).into_iter().take(MAX_TARGETS) {
            let addresses = self.allowed(self.dns.addresses(&target).await, port);
            targets.push(Target { tls_name: host.to_owned(), host_header: host.to_owned(), port, addresses });
        }
        targets
    }

    /// The addresses that Bindery may connect to.
    fn allowed(&self, addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
        let allowed = addresses.into_iter().filter(|address| is_allowed(*address, &self.exceptions));
        allowed.take(MAX_TARGETS).map(|address| SocketAddr::new(address, port)).collect()
    }

    /// Step 3: the name that `host` delegates to, from the cache or its `.well-known`.
    async fn delegated(&self, host: &str, standing: Standing) -> Result<Option<ServerName>, FetchError> {
        let host = host.to_ascii_lowercase();
        let now = self.clock.now();
        if let Some(cached) = self.well_known.get(&host, now) {
            return Ok(cached.answer.ok());
        }
        // A web site that does not answer must leave time to find the homeserver without it.
        let answer = match timeout(self.timeout / 2, self.fetch_well_known(&host, standing)).await {
            // It was not asked, so there is nothing to cache.
            Ok(Err(FetchError::Busy)) => return Err(FetchError::Busy),
            Ok(Ok(Some((delegated, lifetime)))) => Ok((delegated, now.after(lifetime))),
            Ok(Ok(None) | Err(_)) | Err(_) => Err(NotDelegated),
        };
        Ok(self.well_known.insert(&host, now, answer).ok())
    }

    /// Fetches `.well-known/matrix/server`, over redirects to other HTTPS URLs; the delegated name, and how long
    /// to cache it.
    async fn fetch_well_known(
        &self,
        host: &str,
        standing: Standing,
    ) -> Result<Option<(ServerName, Duration)>, FetchError> {
        let mut next =
            Url::parse(&format!("https://{host}:{}/.well-known/matrix/server", self.ports.https)).ok();
        for _ in 0..=MAX_REDIRECTS {
            let Some(url) = next else { return Ok(None) };
            let Some(target) = self.target_of(&url).await else { return Ok(None) };
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            let path = format!("{}{query}", url.path());
            let request = Request::get(&path);
            let response = self.fetch.send(&target, standing, &request, MAX_WELL_KNOWN_BYTES).await?;
            if !response.status.is_redirection() {
                return Ok(read_well_known(&response));
            }
            let location = response.headers.get(LOCATION).and_then(|location| location.to_str().ok());
            next = location.and_then(|location| url.join(location).ok());
        }
        Ok(None)
    }

    /// The place that an HTTPS URL names.
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
            addresses: self.allowed(addresses, port),
        })
    }
}

/// The delegated name in an answer, and how long to cache it.
pub fn read_well_known(response: &Response) -> Option<(ServerName, Duration)> {
    if response.status != StatusCode::OK {
        return None;
    }
    let body: Value = serde_json::from_slice(&response.body).ok()?;
    let delegated = ServerName::parse(body.get("m.server")?.as_str()?)?;
    Some((delegated, lifetime(&response.headers)))
}

/// An address in the form that a URL has.
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// How long to cache an answer, from its `Cache-Control` (RFC 9111).
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
    seconds.map_or(DEFAULT_WELL_KNOWN_LIFETIME, |seconds| {
        Duration::from_secs(seconds).min(MAX_WELL_KNOWN_LIFETIME)
    })
}
