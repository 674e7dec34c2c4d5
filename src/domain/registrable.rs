//! The registrable domain of a host: what somebody had to register, by the public suffix list. Names below it cost
//! nothing, so limits count by it.

use std::net::IpAddr;

/// The registrable domain of `host`. The host itself if it is an IP address or is not below a public suffix. The
/// host must be in lower case and without a port, as [`super::server_name::host_key`] gives it.
pub fn registrable_domain(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    // An unknown top-level domain is a suffix too, so `hs.test` is registrable.
    psl::domain_str(host).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_a_registered_domain_are_one() {
        for (host, domain) in [
            ("example.org", "example.org"),
            ("a.b.example.org", "example.org"),
            ("a.example.co.uk", "example.co.uk"),
            ("a.alice.github.io", "alice.github.io"),
            ("a.hs.test", "hs.test"),
            ("xn--bcher-kva.example.org", "example.org"),
            ("org", "org"),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("", ""),
            (".", "."),
            ("..", ".."),
        ] {
            assert_eq!(registrable_domain(host), domain, "{host}");
        }
    }
}
