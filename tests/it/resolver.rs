//! Finding homeservers where DNS works only in part: questions that are never answered, `/etc/hosts`, and files
//! that change.

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

use bindery::remote::dns::Dns;
use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::support::{
    Server,
    network::{Network, OTHER_PORT, PORTS, server_beside},
};

/// Two seconds for one question that is never answered, and a second for everything else.
const AT_MOST: Duration = Duration::from_secs(3);

/// Registers a user of the server's homeserver; how long it took.
async fn register(server: &Server) -> Duration {
    let begun = Instant::now();
    server.register("alice").await;
    begun.elapsed()
}

#[tokio::test]
async fn a_homeserver_is_found_beside_a_name_server_that_drops_questions() {
    let dropped: [&[RecordType]; 3] =
        [&[RecordType::AAAA], &[RecordType::SRV], &[RecordType::AAAA, RecordType::SRV]];
    for kinds in dropped {
        for port in [None, Some(OTHER_PORT)] {
            let network = Network::new();
            network.dns.address("hs.test", network.home);
            network.dns.drop_questions(kinds);
            let name = port.map_or("hs.test".to_owned(), |port| format!("hs.test:{port}"));
            let place = (network.home, port.unwrap_or(PORTS.federation));
            let server = server_beside(network.put(place, &["hs.test"], &name));
            let took = register(&server).await;
            assert!(took < AT_MOST, "{kinds:?} {name}: {took:?}");
        }
    }
}

#[tokio::test]
async fn a_name_server_that_never_answers_costs_one_deadline() {
    let network = Network::new();
    network.dns.drop_questions(&[RecordType::A, RecordType::AAAA, RecordType::SRV]);
    let name = format!("hs.test:{OTHER_PORT}");
    let server = server_beside(network.put((network.home, OTHER_PORT), &["hs.test"], &name));
    let begun = Instant::now();
    server.register_with(&name, "token").await.refused(502, "M_UNKNOWN");
    assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
}

/// The files in which a system says how to resolve names.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: TempDir::new().expect("a directory") }
    }

    fn paths(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("resolv.conf"), self.dir.path().join("hosts"))
    }

    fn write_hosts(&self, address: Ipv4Addr) {
        fs::write(self.paths().1, format!("127.0.0.1 localhost\n{address} hs.test hs\n")).expect("written");
    }

    /// A server that reads these files, beside the homeserver `hs.test` with this port.
    fn server(&self, network: &Network, port: Option<u16>) -> Server {
        let name = port.map_or("hs.test".to_owned(), |port| format!("hs.test:{port}"));
        let place = (network.home, port.unwrap_or(PORTS.federation));
        let (resolv_conf, hosts) = self.paths();
        let home = network.put(place, &["hs.test"], &name);
        server_beside(home.behind(move || Dns::reading(resolv_conf.clone(), hosts.clone()), PORTS))
    }
}

#[tokio::test]
async fn names_in_the_hosts_file_need_no_name_server() {
    for port in [None, Some(OTHER_PORT)] {
        let (network, files) = (Network::new(), Files::new());
        files.write_hosts(network.home);
        let server = files.server(&network, port);
        let took = register(&server).await;
        assert!(took < AT_MOST, "{took:?}");
    }
}

#[tokio::test]
async fn names_in_the_hosts_file_are_found_beside_a_silent_name_server() {
    let (network, files) = (Network::new(), Files::new());
    files.write_hosts(network.home);
    // Nothing listens there.
    fs::write(files.paths().0, format!("nameserver {}\n", network.web)).expect("written");
    let took = register(&files.server(&network, None)).await;
    assert!(took < AT_MOST, "{took:?}");
}

#[tokio::test]
async fn a_server_without_a_resolver_starts_and_reads_the_files_when_they_appear() {
    let (network, files) = (Network::new(), Files::new());
    let server = files.server(&network, Some(OTHER_PORT));
    let name = server.homeserver.name().to_owned();
    server.register_with(&name, "token").await.refused(502, "M_UNKNOWN");
    files.write_hosts(network.home);
    let begun = Instant::now();
    let token = server.homeserver.openid_token(&format!("@alice:{name}"));
    let is_registered = async || server.register_with(&name, &token).await.status == 200;
    server.until("the files are read again", is_registered).await;
    assert!(begun.elapsed() < AT_MOST, "{:?}", begun.elapsed());
}
