//! The name of a server: a host and an optional port, as the specification's grammar has it
//! (appendices, "Server Name"), taken apart so that nobody splits strings later.
//!
//! Not secret. Knows nothing of DNS or TLS.

use std::{fmt, net::IpAddr};

/// A parsed server name. Its text is exactly what was parsed; names compare by text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName {
    text: String,
    host: Host,
    port: Option<u16>,
}

/// The part of a server name before the port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A literal address; IPv6 without its brackets.
    Ip(IpAddr),
    /// A DNS name as written.
    Dns(String),
}

impl ServerName {
    /// Parses `host[:port]` with at most 230 bytes (what fits into a user ID); `None` for
    /// anything else. A name whose last label is a number is no DNS name (URL standard,
    /// section 3.5), so that `127.1` or `0x7f.1` cannot pass for one.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 230 {
            return None;
        }
        let (host_text, port) = split_port(text)?;
        let host = parse_host(host_text)?;
        Some(Self { text: text.to_owned(), host, port })
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host without the port.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, if the name has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerName({})", self.text)
    }
}

fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let after_host =
        if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(after_host);
    if rest.is_empty() {
        return Some((host, None));
    }
    let digits = rest.strip_prefix(':')?;
    let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let port: u16 = if plain { digits.parse().ok()? } else { return None };
    (port != 0).then_some((host, Some(port)))
}

fn parse_host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']')?.parse().ok()?;
        return Some(Host::Ip(IpAddr::V6(address)));
    }
    if let Ok(address) = text.parse() {
        return Some(Host::Ip(IpAddr::V4(address)));
    }
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = text.rsplit('.').next()?;
    let numeric = last.bytes().all(|b| b.is_ascii_digit())
        || last
            .to_ascii_lowercase()
            .strip_prefix("0x")
            .is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
    (text.split('.').all(label_ok) && !numeric).then(|| Host::Dns(text.to_owned()))
}
