//! Each step of server discovery (Server-Server API, "Resolving server names"): which host Bindery connects to,
//! with which `Host` header, and which certificate it requires.

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::json;

use crate::support::{
    Server,
    homeserver::{Answer, Homeserver, unused_address, user_info_path},
    network::{Network, OTHER_PORT, PORTS, WELL_KNOWN, server_allowed, server_beside},
};

/// Where a homeserver is, and what a caller must check to know that it is the right one.
struct Step {
    /// Its server name.
    name: String,
    /// The address that it listens on.
    place: SocketAddr,
    /// The name that its certificate must be for.
    certificate: String,
    /// Another name that discovery uses; a certificate for this name is not enough.
    other: String,
    /// The `Host` header that it must receive.
    host: String,
}

impl Step {
    fn new(name: &str, place: impl Into<SocketAddr>, certificate: &str, other: &str, host: &str) -> Self {
        let [name, certificate, other, host] = [name, certificate, other, host].map(str::to_owned);
        Self { name, place: place.into(), certificate, other, host }
    }
}

/// Registers a user of the homeserver that `arrange` describes. Then tries again with a certificate for the
/// other name only, which must fail.
async fn leads_home(arrange: impl Fn(&Network) -> Step) {
    let network = Network::new();
    let step = arrange(&network);
    let home = network.put(step.place, &[&step.certificate], &step.name);
    let token = home.openid_token(&format!("@alice:{}", step.name));
    let server = start(home);
    let reply = server.register_with(&step.name, &token).await;
    assert_eq!(
        *server.homeserver.asked.lock().expect("not poisoned"),
        [(step.host, user_info_path(&token))],
        "{}",
        reply.text
    );
    reply.ok();

    let network = Network::new();
    let step = arrange(&network);
    let home = network.put(step.place, &[&step.other], &step.name);
    let token = home.openid_token(&format!("@alice:{}", step.name));
    let server = start(home);
    server.register_with(&step.name, &token).await.refused(502, "M_UNKNOWN");
    assert_eq!(server.homeserver.connections(), 1, "it was found");
    assert!(server.homeserver.asked.lock().expect("not poisoned").is_empty(), "and told nothing");
}

fn start(home: Homeserver) -> Server {
    server_allowed(home, &["127.0.0.0/8".to_owned(), "::1/128".to_owned()])
}

#[tokio::test]
async fn an_address_with_a_port() {
    leads_home(|network| {
        let name = format!("{}:{OTHER_PORT}", network.home);
        let place = (network.home, OTHER_PORT);
        Step::new(&name, place, &network.home.to_string(), "hs.test", &name)
    })
    .await;
}

#[tokio::test]
async fn an_address_without_a_port() {
    leads_home(|network| {
        let name = network.home.to_string();
        Step::new(&name, (network.home, PORTS.federation), &name, &network.web.to_string(), &name)
    })
    .await;
}

#[tokio::test]
async fn an_ipv6_address_with_a_port() {
    // Skip the test on a machine without IPv6.
    let Ok(free) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let network = Network::new();
    let name = format!("[::1]:{port}");
    let home = network.put((Ipv6Addr::LOCALHOST, port), &["::1"], &name);
    let token = home.openid_token(&format!("@alice:{name}"));
    let server = start(home);
    server.register_with(&name, &token).await.ok();
    let asked = server.homeserver.asked.lock().expect("not poisoned").clone();
    assert_eq!(asked, [(name, user_info_path(&token))]);
}

#[tokio::test]
async fn a_host_with_a_port() {
    leads_home(|network| {
        network.dns.alias("hs.test", "node.test");
        network.dns.address("node.test", network.home);
        let name = format!("hs.test:{OTHER_PORT}");
        Step::new(&name, (network.home, OTHER_PORT), "hs.test", "node.test", &name)
    })
    .await;
}

#[tokio::test]
async fn a_host_is_compared_as_written_and_found_whatever_its_case() {
    let network = Network::new();
    network.dns.address("hs.test", network.home);
    let home = network.put((network.home, OTHER_PORT), &["hs.test"], &format!("HS.Test:{OTHER_PORT}"));
    let token = home.openid_token(&format!("@alice:HS.Test:{OTHER_PORT}"));
    let server = start(home);
    server.register_with(&format!("HS.Test:{OTHER_PORT}"), &token).await.ok();
    server.register_with(&format!("hs.test:{OTHER_PORT}"), &token).await.refused(401, "M_UNAUTHORIZED");
}

#[tokio::test]
async fn nothing_is_discovered_for_a_name_with_a_port() {
    let network = Network::new();
    let site = network.delegate("hs.test", "elsewhere.test");
    network.dns.srv("_matrix-fed._tcp.hs.test", 0, 1, "elsewhere.test");
    let name = format!("hs.test:{OTHER_PORT}");
    let server = server_beside(network.put((network.web, OTHER_PORT), &["hs.test"], &name));
    server.register("alice").await;
    assert_eq!(site.connections(), 0);
    assert_eq!(network.dns.asked(), ["A hs.test", "AAAA hs.test"]);
}

#[tokio::test]
async fn delegation_to_an_address() {
    leads_home(|network| {
        let delegated = network.home.to_string();
        network.delegate("hs.test", &delegated);
        Step::new("hs.test", (network.home, PORTS.federation), &delegated, "hs.test", &delegated)
    })
    .await;
}

#[tokio::test]
async fn delegation_to_an_address_with_a_port() {
    leads_home(|network| {
        let delegated = format!("{}:{OTHER_PORT}", network.home);
        network.delegate("hs.test", &delegated);
        let certificate = network.home.to_string();
        Step::new("hs.test", (network.home, OTHER_PORT), &certificate, "hs.test", &delegated)
    })
    .await;
}

#[tokio::test]
async fn delegation_to_a_host_with_a_port() {
    leads_home(|network| {
        let delegated = format!("matrix.test:{OTHER_PORT}");
        network.delegate("hs.test", &delegated);
        network.dns.address("matrix.test", network.home);
        Step::new("hs.test", (network.home, OTHER_PORT), "matrix.test", "hs.test", &delegated)
    })
    .await;
}

#[tokio::test]
async fn delegation_to_a_host_with_an_srv_record() {
    leads_home(|network| {
        network.delegate("hs.test", "matrix.test");
        network.dns.srv("_matrix-fed._tcp.matrix.test", 0, OTHER_PORT, "node.test");
        network.dns.srv("_matrix._tcp.matrix.test", 0, 1, "old.test");
        network.dns.address("node.test", network.home);
        Step::new("hs.test", (network.home, OTHER_PORT), "matrix.test", "node.test", "matrix.test")
    })
    .await;
}

#[tokio::test]
async fn delegation_to_a_host_with_an_srv_record_of_the_old_name() {
    leads_home(|network| {
        network.delegate("hs.test", "matrix.test");
        network.dns.srv("_matrix._tcp.matrix.test", 0, OTHER_PORT, "node.test");
        network.dns.address("node.test", network.home);
        Step::new("hs.test", (network.home, OTHER_PORT), "matrix.test", "node.test", "matrix.test")
    })
    .await;
}

#[tokio::test]
async fn delegation_to_a_host_without_an_srv_record() {
    leads_home(|network| {
        network.delegate("hs.test", "matrix.test");
        network.dns.address("matrix.test", network.home);
        Step::new("hs.test", (network.home, PORTS.federation), "matrix.test", "hs.test", "matrix.test")
    })
    .await;
}

#[tokio::test]
async fn delegation_goes_one_step_only() {
    let network = Network::new();
    let site = network.site(&["hs.test", "matrix.test"]);
    let delegation = json!({ "m.server": "matrix.test" });
    site.answer(WELL_KNOWN, Answer::Json(200, delegation));
    let server = server_beside(network.put((network.web, PORTS.federation), &["matrix.test"], "hs.test"));
    server.register("alice").await;
    assert_eq!(site.asked.lock().expect("not poisoned").len(), 1);
    let asked = network.dns.asked();
    assert!(!asked.iter().any(|question| question.ends_with("._tcp.hs.test")), "{asked:?}");
}

#[tokio::test]
async fn an_srv_record() {
    leads_home(|network| {
        network.dns.srv("_matrix-fed._tcp.hs.test", 0, OTHER_PORT, "node.test");
        network.dns.srv("_matrix._tcp.hs.test", 0, 1, "old.test");
        network.dns.address("node.test", network.home);
        Step::new("hs.test", (network.home, OTHER_PORT), "hs.test", "node.test", "hs.test")
    })
    .await;
}

#[tokio::test]
async fn an_srv_record_of_the_old_name() {
    leads_home(|network| {
        network.dns.srv("_matrix._tcp.hs.test", 0, OTHER_PORT, "node.test");
        network.dns.address("node.test", network.home);
        Step::new("hs.test", (network.home, OTHER_PORT), "hs.test", "node.test", "hs.test")
    })
    .await;
}

#[tokio::test]
async fn nothing_but_an_address_record() {
    leads_home(|network| {
        network.dns.address("hs.test", network.home);
        Step::new("hs.test", (network.home, PORTS.federation), "hs.test", "node.test", "hs.test")
    })
    .await;
}

#[tokio::test]
async fn srv_records_are_tried_in_their_order() {
    let network = Network::new();
    network.dns.srv("_matrix-fed._tcp.hs.test", 20, OTHER_PORT, "last.test");
    network.dns.srv("_matrix-fed._tcp.hs.test", 10, OTHER_PORT, "second.test");
    network.dns.srv("_matrix-fed._tcp.hs.test", 5, OTHER_PORT, "down.test");
    network.dns.address("down.test", unused_address());
    network.dns.address("second.test", network.home);
    network.dns.address("last.test", network.web);
    let last = network.put((network.web, OTHER_PORT), &["hs.test"], "hs.test");
    let server = server_beside(network.put((network.home, OTHER_PORT), &["hs.test"], "hs.test"));
    server.register("alice").await;
    assert_eq!(last.connections(), 0);
}

#[tokio::test]
async fn an_srv_record_that_says_there_is_no_such_service_is_believed() {
    let network = Network::new();
    network.dns.address("hs.test", network.home);
    network.dns.srv("_matrix-fed._tcp.hs.test", 0, 0, ".");
    network.dns.srv("_matrix._tcp.hs.test", 0, PORTS.federation, "hs.test");
    let home = network.put((network.home, PORTS.federation), &["hs.test"], "hs.test");
    let token = home.openid_token("@alice:hs.test");
    let server = server_beside(home);
    server.register_with("hs.test", &token).await.refused(502, "M_UNKNOWN");
    assert_eq!(server.homeserver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_homeserver_that_cannot_be_asked() {
    let network = Network::new();
    let home = network.put((network.home, PORTS.federation), &["hs.test"], "hs.test");
    let token = home.openid_token("@alice:hs.test");
    let server = server_beside(home);
    let body = server.register_with("hs.test", &token).await.refused(502, "M_UNKNOWN");
    let words = "The homeserver hs.test could not be reached; try again later";
    assert_eq!(body, json!({ "errcode": "M_UNKNOWN", "error": words }));
    let asked = network.dns.asked();
    let expected = ["A hs.test", "AAAA hs.test", "SRV _matrix-fed._tcp.hs.test", "SRV _matrix._tcp.hs.test"];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn what_is_no_server_name_is_refused_before_anything_is_asked() {
    let network = Network::new();
    let server = server_beside(network.put((network.home, PORTS.federation), &["hs.test"], "hs.test"));
    let long_label = format!("{}.test", "a".repeat(64));
    let long = ["abcdefghi"; 24].join(".");
    let names = [
        "",
        " ",
        ".",
        ":8448",
        "hs..test",
        ".hs.test",
        "hs.test.",
        "hs test",
        "hs.test ",
        "hs_1.test",
        "hs.test/",
        "hs.test/_matrix",
        "hs.test?x",
        "hs.test#x",
        "user@hs.test",
        "user:password@hs.test",
        "https://hs.test",
        "hs.test:",
        "hs.test:0",
        "hs.test:65536",
        "hs.test:+80",
        "hs.test:080000",
        "hs.test:8448:1",
        "hs.test\r\nX: y",
        "hs.test\0",
        "höst.test",
        "127.1",
        "127.0.0.1.",
        "127.0.0.01",
        "127.0.0.0x1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "256.0.0.1",
        "::1",
        "[::1",
        "[::1]x",
        "[::1%lo]",
        "[127.0.0.1]",
        "[]",
        "[hs.test]",
        &long_label,
        &long,
    ];
    for name in names {
        let reply = server.register_with(name, "token").await;
        assert_eq!((reply.status.as_u16(), reply.errcode().as_str()), (400, "M_INVALID_PARAM"), "{name:?}");
    }
    assert_eq!(network.dns.asked(), [""; 0]);
    assert_eq!(server.homeserver.connections(), 0);
}
