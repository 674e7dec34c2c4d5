//! Where the server listens: with TLS of its own, on a Unix socket, and on sockets of the service manager.

mod activation;
mod certificate;
mod tls;
mod unix;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::supervision::{LIMIT, Run};

/// The name in the certificate of the server.
const NAME: &str = "id.test";

/// A TLS connection that is past its handshake.
struct Secure(StreamOwned<ClientConnection, TcpStream>);

impl Secure {
    /// The handshake; an error if the server refuses it.
    fn connect(server: SocketAddr, client: Arc<ClientConfig>) -> std::io::Result<Self> {
        let name = ServerName::try_from(NAME).expect("a name");
        let connection = ClientConnection::new(client, name).expect("a client");
        let tcp = TcpStream::connect(server)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        let mut stream = StreamOwned::new(connection, tcp);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(Self(stream))
    }

    /// The certificate that the server has shown.
    fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().expect("a certificate")[0].to_vec()
    }
}

/// Sends a request with these header lines; gives the status.
fn status(stream: &mut (impl Read + Write), method: &str, path: &str, headers: &str) -> u16 {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    let answer = String::from_utf8(answer).expect("text");
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{answer}"))
}

const VERSIONS: &str = "/_matrix/identity/versions";

/// Connects to the socket of a server that serves.
fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream
}

/// Reads the log until the server serves with TLS; gives the address.
fn tls_address(run: &mut Run) -> SocketAddr {
    let line = run.line("tls=true address=");
    line.split_once("address=").expect("an address").1.trim().parse().expect("an address")
}
