//! DNS: the addresses of a host, and the servers in its SRV records.
//!
//! Nothing else resolves names: the resolver of the C library loads libraries of the system, which a static executable
//! cannot rely on.
//!
//! Each question has a deadline of its own, and what has been answered by then is used: some servers drop the
//! questions that they do not like. The caller checks each address before it connects.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use futures_util::future::{Either, select};
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, RecordType},
    system_conf::parse_resolv_conf,
};
use tokio::time::timeout;

use crate::domain::file_error::with_path;

/// How long one question may take, its repetition included.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a server may take to answer before it is asked again: UDP loses packets.
const REPEAT_AFTER: Duration = Duration::from_millis(900);
/// How long the question for the other kind of address may take once one is answered.
const OTHER_KIND_TIMEOUT: Duration = Duration::from_millis(300);
/// How often the system's files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// `/etc/resolv.conf` names at most three servers (resolv.conf(5)). All are asked at once.
const MAX_NAME_SERVERS: usize = 3;

/// A resolver.
pub struct Dns {
    files: Option<Files>,
    current: ArcSwap<Known>,
    checked: Mutex<Instant>,
}

/// The files in which the system says how to resolve names.
#[derive(Clone)]
struct Files {
    resolv_conf: PathBuf,
    hosts: PathBuf,
}

/// What the files said when they were last read.
#[derive(Default)]
struct Known {
    /// `None` if there is no name server.
    resolver: Option<TokioResolver>,
    /// The search list, for names with fewer dots than `ndots` (resolv.conf(5)).
    search: Vec<String>,
    ndots: usize,
    hosts: HashMap<String, Vec<IpAddr>>,
    /// The bytes of the files, to see whether they have changed.
    contents: (Vec<u8>, Vec<u8>),
}

/// The target of an SRV record.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Dns {
    /// The resolver of this system, with its hosts file. Without a name server it finds only the names in the
    /// hosts file, until there is one.
    pub fn system() -> Self {
        Self::of(Files::of_system())
    }

    /// Why this system has no usable name server, and what to do. `None` if it has one.
    pub fn missing_name_server() -> Option<String> {
        let files = Files::of_system();
        files.resolver(&files.contents().0).err()
    }

    /// The resolver that these files describe. Reads them again when they change.
    pub fn reading(resolv_conf: PathBuf, hosts: PathBuf) -> Self {
        Self::of(Files { resolv_conf, hosts })
    }

    fn of(files: Files) -> Self {
        let known = files.read();
        Self { files: Some(files), ..Self::with(known) }
    }

    /// A resolver with one name server, for tests.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub fn asking(server: SocketAddr) -> anyhow::Result<Self> {
        let mut connection = ConnectionConfig::udp();
        connection.port = server.port();
        let resolver = resolver(vec![NameServerConfig::new(server.ip(), true, vec![connection])])?;
        Ok(Self::with(Known { resolver: Some(resolver), ..Known::default() }))
    }

    #[expect(clippy::disallowed_methods, reason = "files change in real time")]
    fn with(known: Known) -> Self {
        Self { files: None, current: ArcSwap::from_pointee(known), checked: Mutex::new(Instant::now()) }
    }

    /// The addresses of `host`, IPv6 and IPv4 in turn; empty if it has none or DNS does not answer.
    pub async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        self.read_if_old();
        let known = self.current.load_full();
        if let Some(addresses) = known.hosts.get(&host.to_ascii_lowercase()) {
            return addresses.clone();
        }
        // An empty container has no hosts file.
        if is_localhost(host) {
            return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        let (v6, v4) = (pin!(self.ask(host, RecordType::AAAA)), pin!(self.ask(host, RecordType::A)));
        let (v6, v4) = match select(v6, v4).await {
            Either::Left((v6, v4)) => {
                let v4 = wait_for_other(v4, &v6).await;
                (v6, v4)
            }
            Either::Right((v4, v6)) => (wait_for_other(v6, &v4).await, v4),
        };
        let mut kinds = [v6, v4].map(|records| records.iter().filter_map(address).collect::<VecDeque<_>>());
        let mut addresses = Vec::new();
        // A host with many addresses of one kind must not crowd out the other: this system may lack IPv6.
        while kinds.iter().any(|kind| !kind.is_empty()) {
            addresses.extend(kinds.iter_mut().filter_map(VecDeque::pop_front));
        }
        addresses
    }

    /// The addresses of a host in the configuration, an IP address or a name. The search list applies to the name, as the
    /// operator expects on a network of containers.
    pub async fn addresses_of_configured(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        self.read_if_old();
        for name in self.current.load().candidates(host) {
            let addresses = self.addresses(&name).await;
            if !addresses.is_empty() {
                return addresses;
            }
        }
        Vec::new()
    }

    /// The targets of the SRV records of `name` (RFC 2782), or of `old_name` if `name` has none, in the order to
    /// try them; `None` if neither has such a record. A record whose target is the root means that there is no
    /// service: the list is empty.
    pub async fn services(&self, name: &str, old_name: &str) -> Option<Vec<Service>> {
        self.read_if_old();
        let (new, old) = (pin!(self.ask(name, RecordType::SRV)), pin!(self.ask(old_name, RecordType::SRV)));
        // Both are asked at once, since a server that drops one question drops the other as well.
        let (new, old) = match select(new, old).await {
            Either::Left((new, _)) if !new.is_empty() => (new, Vec::new()),
            Either::Left((new, old)) => (new, old.await),
            Either::Right((old, new)) => (new.await, old),
        };
        targets(&new).or_else(|| targets(&old))
    }

    /// The answers to one question; empty if there are none or the deadline has passed.
    async fn ask(&self, name: &str, kind: RecordType) -> Vec<RData> {
        for _ in 0..2 {
            let known = self.current.load_full();
            let Some(resolver) = &known.resolver else { return Vec::new() };
            match timeout(QUESTION_TIMEOUT, resolver.lookup(absolute(name), kind)).await {
                Ok(Ok(found)) => return found.answers().iter().map(|record| record.data.clone()).collect(),
                // There is no such record, or no server answered.
                Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => return Vec::new(),
                // A network may have changed under the server.
                Ok(Err(_)) | Err(_) if self.read_if_changed() => {}
                Ok(Err(_)) | Err(_) => return Vec::new(),
            }
        }
        Vec::new()
    }

    #[expect(clippy::disallowed_methods, reason = "files change in real time")]
    fn read_if_old(&self) {
        {
            let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.elapsed() < CHECK_INTERVAL {
                return;
            }
            *checked = Instant::now();
        }
        self.read_if_changed();
    }

    /// Reads the files again if they have changed; whether they have.
    fn read_if_changed(&self) -> bool {
        let Some(files) = &self.files else { return false };
        if files.contents() == self.current.load().contents {
            return false;
        }
        self.current.store(Arc::new(files.read()));
        true
    }
}

impl Known {
    /// The names to ask for, in order.
    fn candidates(&self, host: &str) -> Vec<String> {
        let is_in_hosts = self.hosts.contains_key(&host.to_ascii_lowercase());
        if host.ends_with('.') || is_in_hosts || is_localhost(host) {
            return vec![host.to_owned()];
        }
        let mut names: Vec<_> = self.search.iter().map(|domain| format!("{host}.{domain}.")).collect();
        let has_many_dots = host.matches('.').count() >= self.ndots;
        names.insert(if has_many_dots { 0 } else { names.len() }, host.to_owned());
        names
    }
}

impl Files {
    fn of_system() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into() }
    }

    fn contents(&self) -> (Vec<u8>, Vec<u8>) {
        (fs::read(&self.resolv_conf).unwrap_or_default(), fs::read(&self.hosts).unwrap_or_default())
    }

    fn read(&self) -> Known {
        let contents = self.contents();
        let resolver = self.resolver(&contents.0).inspect_err(|problem| tracing::warn!("{problem}"));
        let (config, options) = self.parse(&contents.0).unwrap_or_default();
        let domains = config.search().iter().map(|domain| domain.to_ascii());
        let search =
            domains.map(|domain| domain.trim_end_matches('.').to_owned()).filter(|domain| !domain.is_empty());
        Known {
            resolver: resolver.ok(),
            search: search.collect(),
            ndots: options.ndots,
            hosts: parse_hosts(&contents.1),
            contents,
        }
    }

    /// The resolver that the file describes, or why there is none, and what to do.
    fn resolver(&self, resolv_conf: &[u8]) -> Result<TokioResolver, String> {
        let name_servers = self.parse(resolv_conf).map(|(config, _)| config.name_servers().to_vec());
        name_servers.and_then(resolver).map_err(|error| {
            format!(
                "there is no name server, so this server finds no other server by its name ({error:#}); write 'nameserver' and an address into {}",
                self.resolv_conf.display()
            )
        })
    }

    fn parse(&self, resolv_conf: &[u8]) -> anyhow::Result<(ResolverConfig, ResolverOpts)> {
        let path = &self.resolv_conf;
        if resolv_conf.is_empty() {
            File::open(path).map_err(with_path(path))?;
        }
        let parsed = parse_resolv_conf(resolv_conf).map_err(io::Error::other);
        let parsed = parsed.with_context(|| format!("cannot understand {}", path.display()))?;
        ensure!(!parsed.0.name_servers().is_empty(), "{} names none", path.display());
        Ok(parsed)
    }
}

fn resolver(name_servers: Vec<NameServerConfig>) -> anyhow::Result<TokioResolver> {
    let config = ResolverConfig::from_name_servers(name_servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = REPEAT_AFTER;
    options.attempts = 1;
    options.num_concurrent_reqs = MAX_NAME_SERVERS;
    options.use_hosts_file = ResolveHosts::Never;
    Ok(builder.build()?)
}

/// The names in a hosts file (hosts(5)), in lower case.
fn parse_hosts(contents: &[u8]) -> HashMap<String, Vec<IpAddr>> {
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in String::from_utf8_lossy(contents).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for name in words {
            hosts.entry(name.trim_end_matches('.').to_ascii_lowercase()).or_default().push(address);
        }
    }
    hosts
}

/// The other kind of address, for which nothing waits long once there is an address.
async fn wait_for_other(other: impl Future<Output = Vec<RData>>, answered: &[RData]) -> Vec<RData> {
    if answered.iter().any(|record| address(record).is_some()) {
        timeout(OTHER_KIND_TIMEOUT, other).await.unwrap_or_default()
    } else {
        other.await
    }
}

fn address(record: &RData) -> Option<IpAddr> {
    match record {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// The targets in the SRV records of an answer, see [`Dns::services`].
pub fn targets(records: &[RData]) -> Option<Vec<Service>> {
    let of_srv = |record: &RData| match record {
        RData::SRV(srv) => Some((srv.priority, srv.weight, srv.port, srv.target.to_ascii())),
        _ => None,
    };
    let mut records: Vec<_> = records.iter().filter_map(of_srv).collect();
    if records.is_empty() {
        return None;
    }
    // The greatest weight first, not at random: a few requests a day need no load balancing.
    records.sort_by_key(|(priority, weight, ..)| (*priority, std::cmp::Reverse(*weight)));
    let real = records.into_iter().filter(|(.., target)| target != ".");
    let service = |(_, _, port, host): (u16, u16, u16, String)| Service {
        host: host.trim_end_matches('.').to_owned(),
        port,
    };
    Some(real.map(service).collect())
}

/// Whether the name means this machine, whatever DNS says (RFC 6761 section 6.3).
fn is_localhost(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

/// The name with a final dot, so that no search list applies.
fn absolute(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_name_server_is_named_with_the_file_and_what_to_do() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let resolv_conf = dir.path().join("resolv.conf");
        let files = Files { resolv_conf: resolv_conf.clone(), hosts: dir.path().join("hosts") };
        let problem = || files.resolver(&files.contents().0).err();
        let path = resolv_conf.display().to_string();
        for (text, expected) in [
            (None, "No such file"),
            (Some(""), path.as_str()),
            (Some("search example.org\n# nameserver 192.0.2.53\n"), &path),
            (Some("nameserver nonsense\n"), &path),
            (Some("\u{0}\u{fffd}"), &path),
        ] {
            if let Some(text) = text {
                fs::write(&resolv_conf, text).expect("written");
            }
            let said = problem().unwrap_or_else(|| panic!("{text:?} is no name server"));
            assert!(said.contains(expected) && said.contains("write 'nameserver'"), "{text:?}: {said}");
        }
        fs::write(&resolv_conf, "nameserver 192.0.2.53\n").expect("written");
        assert_eq!(problem(), None);
    }

    #[tokio::test]
    async fn without_a_name_server_the_hosts_file_counts_and_both_files_are_read_again() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (resolv_conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        let dns = Dns::reading(resolv_conf.clone(), hosts.clone());
        assert_eq!(dns.addresses("hs.test").await, [""; 0].map(|_| IpAddr::from([0, 0, 0, 0])));
        fs::write(
            &hosts,
            "# mine\n192.0.2.7 hs.test HS2.Test # both\nnonsense\n2001:db8::7\ths.test\n\u{ff}",
        )
        .expect("written");
        assert!(dns.read_if_changed() && !dns.read_if_changed());
        let expected: Vec<IpAddr> =
            ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().expect("one")).into();
        assert_eq!(dns.addresses("hs.test").await, expected);
        assert_eq!(dns.addresses("hs2.TEST").await, expected[..1]);
        assert!(dns.current.load().resolver.is_none());
        fs::write(&resolv_conf, "search example.org\nnameserver 192.0.2.53\n").expect("written");
        assert!(dns.read_if_changed() && dns.current.load().resolver.is_some());
        fs::write(&resolv_conf, "nameserver nonsense\n\u{0}").expect("written");
        assert!(dns.read_if_changed() && dns.current.load().resolver.is_none());
    }
    #[tokio::test]
    async fn a_host_in_the_configuration_may_be_short() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (resolv_conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        fs::write(&resolv_conf, "nameserver 192.0.2.53\nsearch mail.test example.test.\noptions ndots:2\n")
            .expect("written");
        fs::write(&hosts, "192.0.2.7 relay.example.test\n192.0.2.8 here").expect("written");
        let dns = Dns::reading(resolv_conf, hosts);
        let candidates = |host: &str| dns.current.load().candidates(host);
        assert_eq!(candidates("relay"), ["relay.mail.test.", "relay.example.test.", "relay"]);
        assert_eq!(candidates("a.b.c"), ["a.b.c", "a.b.c.mail.test.", "a.b.c.example.test."]);
        assert_eq!(candidates("relay."), ["relay."]);
        for (host, expected) in [("here", "192.0.2.8"), ("192.0.2.9", "192.0.2.9"), ("::1", "::1")] {
            let expected: IpAddr = expected.parse().expect("an address");
            assert_eq!(dns.addresses_of_configured(host).await, [expected], "{host}");
        }
    }

    #[tokio::test]
    async fn localhost_is_this_machine_whatever_the_search_list_and_dns_say() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (resolv_conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        fs::write(&resolv_conf, "nameserver 192.0.2.53\nsearch example.test\n").expect("written");
        fs::write(&hosts, "192.0.2.7 localhost.example.test\n").expect("written");
        let dns = Dns::reading(resolv_conf, hosts);
        for host in ["localhost", "LocalHost", "localhost."] {
            let found = dns.addresses_of_configured(host).await;
            assert!(found.len() == 2 && found.iter().all(IpAddr::is_loopback), "{host}: {found:?}");
        }
    }
}
