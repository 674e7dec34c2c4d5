//! Parses server names into a host and an optional port (specification, appendices, "Server Name").
//!
//! Server names are not secret, so they print themselves.

use std::{fmt, net::IpAddr};

/// The longest server name in bytes, so that it fits into a user ID.
const MAX_BYTES: usize = 230;

/// A parsed server name. It keeps the text as written, and names compare by text.
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
    /// Parses `host[:port]` of at most 230 bytes; `None` for anything else.
    ///
    /// A name whose last label is a number is not a DNS name (URL standard, section 3.5), so `127.1` and
    /// `0x7f.1` are refused.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (host, port) = split_port(text)?;
        let host = match literal(host) {
            Some(address) => Host::Ip(address),
            None if is_dns_name(host) => Host::Dns(host.to_owned()),
            None => return None,
        };
        Some(Self { text: text.to_owned(), host, port })
    }

    /// Whether [`ServerName::parse`] accepts `text`.
    pub fn is_valid(text: &str) -> bool {
        let host_ok = |host| literal(host).is_some() || is_dns_name(host);
        text.len() <= MAX_BYTES && split_port(text).is_some_and(|(host, _)| host_ok(host))
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

/// The key of a homeserver in limits, budgets and block lists: its host without the port, in lower case, an IP
/// address in its shortest form. Otherwise one host could evade a limit with other ports and spellings.
pub fn host_key(server_name: &str) -> String {
    let host = split_port(server_name).map_or(server_name, |(host, _)| host);
    let address = literal(host).map(|address| address.to_canonical().to_string());
    address.unwrap_or_else(|| host.to_ascii_lowercase())
}

/// Whether a server is at the host of `other` or at a subdomain of it: the owner of a domain controls its
/// subdomains too.
pub fn is_at_or_below(server_name: &str, other: &str) -> bool {
    let (host, above) = (host_key(server_name), host_key(other));
    host.strip_suffix(&above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
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

/// The address if the host is a literal: IPv4, or IPv6 in brackets.
fn literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

fn is_dns_name(host: &str) -> bool {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let last = host.rsplit('.').next().unwrap_or(host);
    let hexadecimal = |(prefix, digits): (&str, &str)| {
        prefix.eq_ignore_ascii_case("0x") && digits.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let numeric =
        last.bytes().all(|b| b.is_ascii_digit()) || last.split_at_checked(2).is_some_and(hexadecimal);
    host.split('.').all(label_ok) && !numeric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_whatever_its_port_and_spelling() {
        for (name, key) in [
            ("evil.example", "evil.example"),
            ("Evil.Example:443", "evil.example"),
            ("192.0.2.1:8448", "192.0.2.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:DB8:0:0::1]:8448", "2001:db8::1"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ] {
            assert_eq!(host_key(name), key, "{name}");
        }
    }

    #[test]
    fn what_is_below_a_domain_belongs_to_it() {
        for (name, other, expected) in [
            ("evil.example", "evil.example", true),
            ("evil.example:443", "evil.example", true),
            ("evil.example", "EVIL.example:8448", true),
            ("a.b.Evil.example:1", "evil.example", true),
            ("notevil.example", "evil.example", false),
            ("evil.example.org", "evil.example", false),
            ("example", "evil.example", false),
            ("192.0.2.1:1", "192.0.2.1", true),
        ] {
            assert_eq!(is_at_or_below(name, other), expected, "{name} {other}");
        }
    }
}
