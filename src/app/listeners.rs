//! The sockets: binding them, and finding out whether requests to them are answered.

use std::{
    fs::Permissions,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use rustix::{io::Errno, net::sockopt::set_tcp_user_timeout};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

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

/// A request that the HTTP library itself answers with 400. It shows that workers run, and no log counts it.
const PROBE: &[u8] = b"?\r\n\r\n";

/// Listens on what a setting names. A connection is closed when its client takes nothing for [`WRITE_TIMEOUT`].
///
/// # Errors
/// If an address cannot be listened on.
pub fn bind(key: &str, addresses: &[String]) -> anyhow::Result<Vec<TcpListener>> {
    let bind = |address: &String| {
        let cannot = || {
            format!(
                "cannot listen on {address}: if another program uses it, stop that program or change {key}"
            )
        };
        let listener = TcpListener::bind(address).with_context(cannot)?;
        // Connections inherit it. Linux also counts the time in which a client acknowledges, but has no room.
        set_tcp_user_timeout(&listener, WRITE_TIMEOUT.as_millis() as u32)
            .with_context(|| format!("cannot set TCP_USER_TIMEOUT on {address}"))?;
        Ok(listener)
    };
    addresses.iter().map(bind).collect()
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
pub async fn require_answers(addresses: &[SocketAddr], control: &Path) -> anyhow::Result<()> {
    for address in addresses {
        require_answer(|| TcpStream::connect(reachable(*address)), &address.to_string()).await?;
    }
    require_answer(|| UnixStream::connect(control), &control.display().to_string()).await
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
