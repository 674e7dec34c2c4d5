//! The sockets: binding them, and finding out whether requests to them are answered.

use std::{
    fmt,
    fs::Permissions,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use rustix::{io::Errno, net::sockopt::set_tcp_user_timeout};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

use super::{activation::PassedSockets, unix_socket::SocketFile};
use crate::config::{Http, ListenOn};

/// The name of the operator's socket in the data directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// How long a listener may take to answer a request of the check.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the check asks a listener that does not answer. A flood of connections may delay the start, but
/// must not end it at once.
const ANSWER_ATTEMPTS: usize = 6;
/// The pause after a connection that was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// How long a client may take nothing of an answer. The HTTP library has no such timeout, so a client that reads
/// nothing would keep its connection, and its place, for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A request that the HTTP library itself answers with 400, and the TLS library with an alert. It shows that workers
/// run, and no log counts it.
const PROBE: &[u8] = b"?\r\n\r\n";

/// The sockets on which clients are served.
pub struct Listeners {
    /// Without TLS.
    pub tcp: Vec<TcpListener>,
    /// Behind a reverse proxy on this machine.
    pub unix: Vec<UnixListener>,
    /// With TLS.
    pub tls: Vec<TcpListener>,
    /// Removed when the server has ended.
    pub files: Vec<SocketFile>,
}

impl Listeners {
    /// Takes the sockets that were passed, or listens on what the configuration names.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn open(http: &Http, passed: PassedSockets) -> anyhow::Result<Self> {
        let mut opened = Self { tcp: passed.tcp, unix: passed.unix, tls: passed.tls, files: Vec::new() };
        if opened.is_empty() {
            for address in &http.listen {
                match ListenOn::parse(address) {
                    Some(ListenOn::Unix(path)) => {
                        let (listener, file) = SocketFile::bind(path)?;
                        opened.unix.push(listener);
                        opened.files.push(file);
                    }
                    _ => opened.tcp.push(listen("http.listen", address)?),
                }
            }
            opened.tls = bind("http.tls.listen", &http.tls.listen)?;
        }
        opened.tcp.iter().chain(&opened.tls).try_for_each(cut_off_silent_clients)?;
        Ok(opened)
    }

    fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty() && self.tls.is_empty()
    }

    /// Where they listen: first in the clear, then on sockets, then with TLS.
    pub fn addresses(&self) -> Vec<Address> {
        let tcp = addresses_of(&self.tcp).into_iter().map(Address::Tcp);
        let path = |listener: &UnixListener| listener.local_addr().ok()?.as_pathname().map(Path::to_owned);
        let unix = self.unix.iter().filter_map(path).map(Address::Unix);
        tcp.chain(unix).chain(addresses_of(&self.tls).into_iter().map(Address::Tls)).collect()
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// In the clear.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Unix(PathBuf),
    /// With TLS.
    Tls(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Listens on the addresses that a setting names. A connection is closed when its client takes nothing for
/// [`WRITE_TIMEOUT`].
///
/// # Errors
/// If an address cannot be listened on.
pub fn bind(key: &str, addresses: &[String]) -> anyhow::Result<Vec<TcpListener>> {
    let bind = |address: &String| {
        let listener = listen(key, address)?;
        cut_off_silent_clients(&listener).map(|()| listener)
    };
    addresses.iter().map(bind).collect()
}

fn listen(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "a port below 1024 needs a permission: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or a socket unit".to_owned()
            }
            _ => format!("if another program uses it, stop that program or change {key}"),
        };
        anyhow::Error::from(error).context(format!("cannot listen on {address}: {advice}"))
    })
}

fn cut_off_silent_clients(listener: &TcpListener) -> anyhow::Result<()> {
    // Connections inherit it. Linux also counts the time in which a client acknowledges, but has no room.
    set_tcp_user_timeout(listener, WRITE_TIMEOUT.as_millis() as u32).context("cannot set TCP_USER_TIMEOUT")
}

/// Where they listen.
pub fn addresses_of(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// Listens on the operator's socket. A crash may have left one behind; the lock on the directory says that no
/// other process serves there.
///
/// # Errors
/// If it cannot be created.
pub fn bind_control(data_dir: &Path) -> anyhow::Result<UnixListener> {
    let path = data_dir.join(CONTROL_SOCKET);
    let _ = std::fs::remove_file(&path);
    // The mode of the directory already keeps others out. An operator may open it to a group for backups.
    let owner_only = || std::fs::set_permissions(&path, Permissions::from_mode(0o600));
    UnixListener::bind(&path)
        .and_then(|listener| owner_only().map(|()| listener))
        .with_context(|| format!("cannot create the socket {}", path.display()))
}

/// Sends a request to each listener and waits for the answer.
///
/// # Errors
/// If one answers nothing.
pub async fn require_answers(addresses: &[Address]) -> anyhow::Result<()> {
    for address in addresses {
        let name = address.to_string();
        match address {
            Address::Tcp(address) | Address::Tls(address) => {
                require_answer(|| TcpStream::connect(reachable(*address)), &name).await?;
            }
            Address::Unix(path) => require_answer(|| UnixStream::connect(path), &name).await?,
        }
    }
    Ok(())
}

async fn require_answer<S, C>(connect: impl Fn() -> C, listener: &str) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Future<Output = io::Result<S>>,
{
    for _ in 1..ANSWER_ATTEMPTS {
        match ask(connect(), listener).await {
            Err(error) if is(&error, io::ErrorKind::TimedOut) => {
                tracing::warn!(
                    listener,
                    "a listener does not answer yet; is the server flooded with connections?"
                );
            }
            // Its server may have ended this moment. Then the supervisor ends this check before the next attempt.
            Err(error) if is(&error, io::ErrorKind::ConnectionRefused) => sleep(REFUSED_PAUSE).await,
            outcome => return outcome,
        }
    }
    match ask(connect(), listener).await {
        Err(error) if is(&error, io::ErrorKind::ConnectionRefused) => {
            log_unreachable(&error, listener);
            Ok(())
        }
        outcome => outcome,
    }
}

fn is(error: &anyhow::Error, kind: io::ErrorKind) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == kind)
}

/// The listener is there, so a firewall is in between. That must not keep the server from starting.
fn log_unreachable(error: &anyhow::Error, listener: &str) {
    tracing::warn!(%error, listener, "the server cannot connect to its own listener to check it; does a firewall forbid that?");
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    connect: impl Future<Output = io::Result<S>>,
    listener: &str,
) -> anyhow::Result<()> {
    let too_few = || {
        format!(
            "{listener} answers no request; is the limit of open files (ulimit -n, LimitNOFILE=) too low?"
        )
    };
    let mut stream = match within(connect).await {
        Ok(stream) => stream,
        Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            return Err(error).with_context(too_few);
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error.into()),
        Err(error) => {
            log_unreachable(&error.into(), listener);
            return Ok(());
        }
    };
    let answer = async {
        stream.write_all(PROBE).await?;
        stream.read_u8().await
    };
    within(answer).await.map(drop).with_context(too_few)
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER_TIMEOUT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The loopback address in place of "any address".
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
