//! `http.listen` and `[http.tls]`: where the server listens, in the clear and with TLS of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Http;

/// The longest path of a socket in bytes: `sun_path` in unix(7), without its last zero.
pub const MAX_SOCKET_PATH: usize = 107;

/// What an address in `http.listen` on a Unix socket begins with.
const UNIX: &str = "unix:";

/// TLS without a reverse proxy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Addresses and ports to listen on with TLS, like "[::]:443" for every address of this machine; none by default.
    pub listen: Vec<String>,
    /// A PEM file with the certificate of this server, followed by those of its issuers (fullchain.pem); Bindery notices within a minute when this file or the key changes.
    pub certificate_file: Option<PathBuf>,
    /// A PEM file with the private key of the certificate, without a passphrase.
    pub key_file: Option<PathBuf>,
}

/// An address in `http.listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenOn<'a> {
    /// An IP address with a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(&'a Path),
}

impl<'a> ListenOn<'a> {
    /// Reads `127.0.0.1:8090` or `unix:/run/bindery/http.sock`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let Some(path) = text.strip_prefix(UNIX) else { return text.parse().ok().map(Self::Tcp) };
        let path = Path::new(path);
        let fits = path.as_os_str().len() <= MAX_SOCKET_PATH;
        (path.is_absolute() && path.file_name().is_some() && fits).then_some(Self::Unix(path))
    }
}

impl Http {
    /// The problems of these addresses, for [`super::Config::check`].
    pub(super) fn listen_problems(&self) -> Vec<String> {
        let Self { listen, metrics_listen, tls, .. } = self;
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| problems.extend((!holds).then_some(problem));
        require(
            !listen.is_empty() || !tls.listen.is_empty(),
            "http.listen: name at least one address, like '127.0.0.1:8090', or set http.tls.listen"
                .to_owned(),
        );
        for address in listen {
            let problem = match address.strip_prefix(UNIX) {
                Some(_) => format!(
                    "http.listen: '{address}' is not a socket; write unix: and a full path of at most {MAX_SOCKET_PATH} bytes, like 'unix:/run/bindery/http.sock'"
                ),
                None => format!(
                    "http.listen: '{address}' is not an address with a port, like '127.0.0.1:8090', and not a socket, like 'unix:/run/bindery/http.sock'"
                ),
            };
            require(ListenOn::parse(address).is_some(), problem);
        }
        for (key, addresses) in [("http.tls.listen", &tls.listen), ("http.metrics_listen", metrics_listen)] {
            for address in addresses {
                let problem =
                    format!("{key}: '{address}' is not an address with a port, like '127.0.0.1:8090'");
                require(address.parse::<SocketAddr>().is_ok(), problem);
            }
        }
        let pair = (tls.certificate_file.is_some(), tls.key_file.is_some());
        require(pair.0 == pair.1, "http.tls: set certificate_file and key_file, or neither".to_owned());
        require(
            tls.listen.is_empty() || pair == (true, true) || pair.0 != pair.1,
            "http.tls.listen: set http.tls.certificate_file and http.tls.key_file, too".to_owned(),
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_one_of_two_forms() {
        let tcp = |text: &str| Some(ListenOn::Tcp(text.parse().expect("an address")));
        assert_eq!(ListenOn::parse("127.0.0.1:8090"), tcp("127.0.0.1:8090"));
        assert_eq!(ListenOn::parse("[::]:443"), tcp("[::]:443"));
        let path = "/run/bindery/http.sock";
        assert_eq!(ListenOn::parse(&format!("unix:{path}")), Some(ListenOn::Unix(Path::new(path))));
        let longest = format!("unix:/{}", "x".repeat(MAX_SOCKET_PATH - 1));
        assert!(ListenOn::parse(&longest).is_some());
        for wrong in [
            "",
            "8090",
            "localhost:8090",
            "unix:",
            "unix:/",
            "unix:http.sock",
            "/run/http.sock",
            &(longest + "x"),
        ] {
            assert_eq!(ListenOn::parse(wrong), None, "{wrong}");
        }
    }
}
