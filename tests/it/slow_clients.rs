//! Clients that request and then read nothing: they lose their connections, and others get their places.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt::set_socket_recv_buffer_size};
use tempfile::TempDir;

use crate::support::{
    homeserver::Homeserver,
    program::{Program, config_file},
};

/// With so few descriptors, the one worker has places for eight connections.
const DESCRIPTORS: usize = 120;
const PLACES: usize = 8;
/// The time that a client has to take something, and what a slow machine adds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const CUT_OFF: Duration = Duration::from_secs(50);

/// A page whose answers fill the buffers of any connection, if a client requests it often enough.
const REQUEST: &[u8] = b"GET /privacy HTTP/1.1\r\nhost: id.test\r\n\r\n";

/// A connection with a small buffer, on which the server has written until it could write no more.
fn client_that_reads_nothing(server: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    set_socket_recv_buffer_size(&socket, 2048).expect("set");
    connect(&socket, &server).expect("connected");
    let mut stream = TcpStream::from(socket);
    // The server reads no further requests while it cannot write.
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("set");
    let requests = REQUEST.repeat(1000);
    let begun = Instant::now();
    while stream.write_all(&requests).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it reads on and on");
    }
    stream
}

/// Sends a request on a new connection; the connection, if the answer comes in time.
fn answered(server: SocketAddr, at_most: Duration) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(server).expect("connected");
    stream.set_read_timeout(Some(at_most)).expect("set");
    stream.write_all(b"GET /_matrix/identity/versions HTTP/1.1\r\nhost: id.test\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 15]).is_ok().then_some(stream)
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_and_its_place_is_free_again() {
    let (dir, homeserver) = (TempDir::new().expect("a directory"), Homeserver::start());
    let mut program = Program::start_limited(&config_file(dir.path(), &homeserver), DESCRIPTORS, 1);
    let server: SocketAddr = program.base.trim_start_matches("http://").parse().expect("an address");
    let begun = Instant::now();
    let silent: Vec<_> = (0..PLACES).map(|_| client_that_reads_nothing(server)).collect();
    assert!(answered(server, Duration::from_secs(2)).is_none(), "every place is taken");
    let others: Vec<_> = (0..PLACES).map_while(|_| answered(server, CUT_OFF)).collect();
    assert!(begun.elapsed() > WRITE_TIMEOUT, "no client is cut off early");
    assert_eq!(others.len(), PLACES, "only {} of {PLACES} connections are free again", others.len());
    drop((silent, others));
    program.stop();
}
