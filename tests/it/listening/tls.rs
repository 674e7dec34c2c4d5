//! TLS of the server's own.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustls::version::{TLS12, TLS13};

use super::{NAME, Secure, VERSIONS, status, tls_address};
use crate::{
    supervision::{LIMIT, Place, Run},
    support::{
        homeserver::Homeserver,
        program::{Program, config_file},
        tls::Authority,
    },
};

#[test]
fn tls_1_2_and_1_3_are_served_beside_plain_http_and_nothing_older_than_http_1_1_is_negotiated() {
    let (place, authority) = (Place::new(), Authority::new());
    let (certificate, key) = authority.issue(NAME);
    fs::write(place.path().join("cert.pem"), certificate).expect("written");
    fs::write(place.path().join("key.pem"), key).expect("written");
    let mut command = place.command();
    command
        .env("BINDERY_HTTP__TLS__LISTEN", "['127.0.0.1:0']")
        .env("BINDERY_HTTP__TLS__CERTIFICATE_FILE", place.path().join("cert.pem"))
        .env("BINDERY_HTTP__TLS__KEY_FILE", place.path().join("key.pem"));
    let mut run = Run::start(command);
    let plain: SocketAddr = run.base().trim_start_matches("http://").parse().expect("an address");
    let tls = tls_address(&mut run);
    for version in [&TLS12, &TLS13] {
        let mut stream = Secure::connect(tls, authority.client(&[version])).expect("a handshake");
        assert_eq!(stream.0.conn.protocol_version(), Some(version.version));
        assert_eq!(stream.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(status(&mut stream.0, "GET", VERSIONS, ""), 200);
    }
    let mut stream = TcpStream::connect(plain).expect("it listens");
    assert_eq!(status(&mut stream, "GET", VERSIONS, ""), 200);
    // Plain HTTP on the port of TLS gets no answer of the application.
    let mut stream = TcpStream::connect(tls).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: id.test\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    run.stop();
}

/// With so few descriptors, the one worker has places for eight connections.
const DESCRIPTORS: usize = 120;
const PLACES: usize = 8;
/// What the head of a request may take, and a handshake, and what a slow machine adds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CUT_OFF: Duration = Duration::from_secs(25);

#[test]
fn a_client_that_stalls_in_the_handshake_has_a_place_for_no_longer_than_a_head_may_take() {
    let (dir, homeserver) = (tempfile::TempDir::new().expect("a directory"), Homeserver::start());
    let authority = Authority::new();
    let (certificate, key) = authority.issue(NAME);
    fs::write(dir.path().join("cert.pem"), certificate).expect("written");
    fs::write(dir.path().join("key.pem"), key).expect("written");
    let config = config_file(dir.path(), &homeserver);
    let tls = crate::supervision::free_address();
    let text = format!(
        "{}http.tls.listen = ['{tls}']\nhttp.tls.certificate_file = '{dir}/cert.pem'\nhttp.tls.key_file = '{dir}/key.pem'\n",
        fs::read_to_string(&config).expect("a file"),
        dir = dir.path().display()
    );
    fs::write(&config, text).expect("written");
    let mut program = Program::start_limited(&config, DESCRIPTORS, 1);
    let plain: SocketAddr = program.base.trim_start_matches("http://").parse().expect("an address");
    let begun = Instant::now();
    let stalled: Vec<TcpStream> = (0..PLACES)
        .map(|number| {
            let mut stream = TcpStream::connect(&tls).expect("it accepts");
            // Some send the beginning of a handshake.
            stream.write_all(if number % 2 == 0 { b"" } else { b"\x16\x03\x01" }).expect("sent");
            stream
        })
        .collect();
    let request = || {
        let mut stream = TcpStream::connect(plain).expect("connected");
        stream.write_all(b"GET /_matrix/identity/versions HTTP/1.1\r\nhost: id.test\r\n\r\n").expect("sent");
        stream
    };
    let mut waiting = request();
    waiting.set_read_timeout(Some(Duration::from_secs(2))).expect("set");
    assert!(waiting.read(&mut [0]).is_err(), "every place is taken");
    waiting.set_read_timeout(Some(CUT_OFF)).expect("set");
    assert!(waiting.read_exact(&mut [0; 12]).is_ok(), "the places are not free again");
    let took = begun.elapsed();
    assert!(took > HEAD_TIMEOUT - Duration::from_secs(1) && took < CUT_OFF, "{took:?}");
    let all: Vec<TcpStream> = (1..PLACES).map(|_| request()).collect();
    for mut stream in all {
        stream.set_read_timeout(Some(CUT_OFF)).expect("set");
        stream.read_exact(&mut [0; 12]).expect("a place");
    }
    drop(stalled);
    program.stop();
}
