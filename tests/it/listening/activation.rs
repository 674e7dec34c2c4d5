//! Sockets of the service manager (socket activation).

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    process::Command,
};

use rustls::version::TLS13;

use super::{NAME, Secure, VERSIONS, connect, status, tls_address};
use crate::{
    supervision::{Place, Run},
    support::tls::Authority,
};

/// The program as a service manager starts it that passes these two sockets: they are descriptors 3 and 4.
fn passing(place: &Place, pid: &str, names: &str, first: OwnedFd, second: OwnedFd) -> Command {
    let line = format!("LISTEN_FDS=2 LISTEN_PID={pid} exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null");
    let mut command = place.shell(&line);
    command.env("LISTEN_FDNAMES", names).stdin(first).stdout(second);
    command
}

fn tcp() -> (SocketAddr, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    (listener.local_addr().expect("an address"), listener.into())
}

#[test]
fn passed_sockets_replace_those_of_the_configuration() {
    let place = Place::new();
    let path = place.path().join("passed.sock");
    let ((address, first), second) = (tcp(), UnixListener::bind(&path).expect("a socket"));
    let mut command = passing(&place, "$$", "bindery.socket:bindery.socket", first, second.into());
    // It could not listen on this.
    command.env("BINDERY_HTTP__LISTEN", "['192.0.2.1:8090']");
    let mut run = Run::start(command);
    assert_eq!(run.base(), format!("http://{address}"));
    run.line(&format!("address=unix:{}", path.display()));
    assert_eq!(status(&mut TcpStream::connect(address).expect("it listens"), "GET", VERSIONS, ""), 200);
    assert_eq!(status(&mut connect(&path), "GET", VERSIONS, ""), 200);
    run.stop();
    assert!(path.exists(), "the socket belongs to the service manager");
}

#[test]
fn a_socket_with_the_name_tls_is_served_with_tls() {
    let (place, authority) = (Place::new(), Authority::new());
    let (certificate, key) = authority.issue(NAME);
    fs::write(place.path().join("cert.pem"), certificate).expect("written");
    fs::write(place.path().join("key.pem"), key).expect("written");
    let ((plain, first), (tls, second)) = (tcp(), tcp());
    let mut command = passing(&place, "$$", "http:tls", first, second);
    command
        .env("BINDERY_HTTP__TLS__CERTIFICATE_FILE", place.path().join("cert.pem"))
        .env("BINDERY_HTTP__TLS__KEY_FILE", place.path().join("key.pem"));
    let mut run = Run::start(command);
    assert_eq!(run.base(), format!("http://{plain}"));
    assert_eq!(tls_address(&mut run), tls);
    let mut stream = Secure::connect(tls, authority.client(&[&TLS13])).expect("a handshake");
    assert_eq!(status(&mut stream.0, "GET", VERSIONS, ""), 200);
    run.stop();
}

#[test]
fn sockets_that_were_passed_to_another_process_are_ignored() {
    let place = Place::new();
    let ((passed, first), (_, second)) = (tcp(), tcp());
    let mut run = Run::start(passing(&place, "1", "", first, second));
    let base = run.base();
    assert_ne!(base, format!("http://{passed}"));
    run.stop();
}

#[test]
fn sockets_that_cannot_be_served_end_the_start_with_78() {
    let place = Place::new();
    let path = |name| place.path().join(name);
    let datagram = || UnixDatagram::bind(path("datagram")).expect("a socket").into();
    let unix = || UnixListener::bind(path("tls")).expect("a socket").into();
    let file = || fs::File::open("/dev/null").expect("it opens").into();
    let cases: [(&str, OwnedFd, &str); 4] = [
        (
            "a:b",
            datagram(),
            "socket 2 of the service manager ('b') is not a stream socket: use ListenStream=",
        ),
        ("a:b", file(), "socket 2 of the service manager ('b') is not a stream socket"),
        ("a:tls", unix(), "socket 2 of the service manager is named 'tls', but a Unix socket has no TLS"),
        (
            "a:tls",
            tcp().1,
            "the service manager passes a socket with the name 'tls': set http.tls.certificate_file",
        ),
    ];
    for (names, second, words) in cases {
        let (status, log) = Run::start(passing(&place, "$$", names, tcp().1, second)).end();
        assert_eq!(status.code(), Some(78), "{log}");
        assert!(log.contains(words), "{log}");
    }
}
