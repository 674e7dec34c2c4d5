//! Sockets that the service manager passes (socket activation, `sd_listen_fds(3)`). They replace all addresses of the
//! configuration on which clients are served, because the unit of the sockets then says where the server listens.

use std::{net::TcpListener, os::unix::net::UnixListener};

use anyhow::{Context, bail};
use listenfd::ListenFd;

/// The name (`FileDescriptorName=`) of sockets that are served with TLS.
const TLS: &str = "tls";

/// The sockets that were passed.
#[derive(Default)]
pub struct PassedSockets {
    /// Served without TLS.
    pub tcp: Vec<TcpListener>,
    /// Served without TLS; a reverse proxy connects to them.
    pub unix: Vec<UnixListener>,
    /// Served with TLS.
    pub tls: Vec<TcpListener>,
}

impl PassedSockets {
    /// Takes the sockets that were passed to this process. Those that were passed to another one are ignored.
    /// `names` is `LISTEN_FDNAMES`: a name for each socket.
    ///
    /// # Errors
    /// If one is not a socket that a server can listen on.
    pub fn take(names: Option<&str>) -> anyhow::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut names = names.unwrap_or_default().split(':');
        let mut sockets = Self::default();
        for number in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            let what = || {
                format!(
                    "socket {} of the service manager ('{name}') is not a stream socket: use ListenStream= and Accept=no in the socket unit",
                    number + 1
                )
            };
            if let Ok(Some(listener)) = passed.take_unix_listener(number) {
                if name == TLS {
                    bail!(
                        "socket {} of the service manager is named '{TLS}', but a Unix socket has no TLS: remove its FileDescriptorName=",
                        number + 1
                    );
                }
                sockets.unix.push(listener);
                continue;
            }
            let listener = passed.take_tcp_listener(number).with_context(what)?.with_context(what)?;
            let kind = if name == TLS { &mut sockets.tls } else { &mut sockets.tcp };
            kind.push(listener);
        }
        Ok(sockets)
    }

    /// Whether none was passed.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty() && self.tls.is_empty()
    }
}
