//! Extractors for the caller of a request: the client's IP address, and the account of the access token.
//!
//! They are the access check: a handler that takes an [`Account`] does not run without a valid token and
//! accepted terms.

use std::{
    any::Any,
    future::{Ready, ready},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::{Extensions, Payload},
    http::header::{AUTHORIZATION, HeaderValue, X_FORWARDED_FOR},
    rt::net::UnixStream,
    web::Data,
};
use serde::Deserialize;

use super::{State, body::query, error::ApiError};
use crate::{
    config::Config,
    domain::{ids::Token, network::Network, refusal::Refusal},
    ops::account::{
        terms,
        tokens::{self, Authenticated},
    },
};

/// The IP address of the client, behind any trusted proxies.
#[derive(Clone, Copy)]
pub struct Caller(IpAddr);

/// The other end of a connection.
#[derive(Clone, Copy)]
enum Peer {
    /// A client, or a proxy.
    Address(IpAddr),
    /// A proxy: the mode of the socket decides who can connect.
    UnixSocket,
    /// A client that has closed its connection, so that the system no longer knows its address.
    Gone,
}

/// Marks the connections that came through a Unix socket.
struct ThroughUnixSocket;

/// Called with each new connection and its data.
pub fn mark_unix_socket(connection: &dyn Any, data: &mut Extensions) {
    if connection.is::<UnixStream>() {
        data.insert(ThroughUnixSocket);
    }
}

impl Peer {
    fn of(request: &HttpRequest) -> Self {
        match request.peer_addr() {
            Some(address) => Self::Address(address.ip()),
            None if request.conn_data::<ThroughUnixSocket>().is_some() => Self::UnixSocket,
            None => Self::Gone,
        }
    }

    fn is_trusted(self, config: &Config) -> bool {
        match self {
            Self::Address(address) => config.trusts(address),
            Self::UnixSocket => true,
            Self::Gone => false,
        }
    }

    fn address(self) -> IpAddr {
        match self {
            Self::Address(address) => address,
            Self::UnixSocket => Ipv4Addr::LOCALHOST.into(),
            Self::Gone => Ipv4Addr::UNSPECIFIED.into(),
        }
    }
}

impl Caller {
    /// The caller of a request.
    pub fn of(request: &HttpRequest, config: &Config) -> Self {
        let peer = Peer::of(request);
        // Read bytes, because a client can put anything in front of the proxy's own entry, and it need not be
        // text.
        let mut lines = request.headers().get_all(X_FORWARDED_FOR).map(HeaderValue::as_bytes);
        let first = lines.next().unwrap_or_default();
        let Some(second) = lines.next() else { return Self(client_address(peer, first, config)) };
        // Several header lines are one list (RFC 9110 section 5.3).
        let forwarded = [first, second].into_iter().chain(lines).collect::<Vec<_>>().join(&b',');
        Self(client_address(peer, &forwarded, config))
    }

    /// The address itself, for the logs that store it.
    pub fn ip(self) -> IpAddr {
        self.0.to_canonical()
    }

    /// The network of the address, for limits and budgets.
    pub fn network(self) -> Network {
        Network::of(self.0)
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request, config(request))))
    }
}

/// The rightmost address that is not a trusted proxy. The peer itself is the rightmost of all.
fn client_address(peer: Peer, forwarded: &[u8], config: &Config) -> IpAddr {
    let (mut client, mut is_proxy) = (peer.address(), peer.is_trusted(config));
    for entry in forwarded.rsplit(|byte| *byte == b',') {
        if !is_proxy {
            break;
        }
        let Some(address) = std::str::from_utf8(entry.trim_ascii()).ok().and_then(forwarded_address) else {
            break;
        };
        (client, is_proxy) = (address, config.trusts(address));
    }
    client
}

/// Warns once of a proxy that does not send X-Forwarded-For. A server whose URL is http, or that has TLS of its own,
/// need not have a proxy.
pub fn warn_of_silent_proxy(request: &HttpRequest, config: &Config) {
    static HAS_WARNED: AtomicBool = AtomicBool::new(false);
    if HAS_WARNED.load(Ordering::Relaxed)
        || request.headers().contains_key(X_FORWARDED_FOR)
        || request.app_config().secure()
        || !config.public_base_url.starts_with("https://")
        || !Peer::of(request).is_trusted(config)
        || HAS_WARNED.swap(true, Ordering::Relaxed)
    {
        return;
    }
    tracing::warn!(
        "a request came from a trusted proxy without X-Forwarded-For: if the proxy does not send it, all callers share the rate limits of one address, so set it there; ignore this line if you sent the request on this machine yourself"
    );
}

/// Parses an entry of X-Forwarded-For. Some proxies add the port; then an IPv6 address is in brackets.
fn forwarded_address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// A homeserver that the operator allows to validate phone numbers here.
pub struct Delegate;

impl FromRequest for Delegate {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let allowed = &config(request).delegation.allowed_networks;
        ready(Caller::from_request(request, payload).into_inner().and_then(|Caller(address)| {
            let listed = allowed.iter().any(|network| network.contains(&address.to_canonical()));
            let refused = || Refusal::Forbidden("Only homeservers that the operator has named may do this");
            if listed { Ok(Self) } else { Err(refused().into()) }
        }))
    }
}

/// An account with a valid token that has accepted the terms.
pub struct Account(pub Authenticated);

/// An account with a valid token, whether or not it has accepted the terms.
pub struct AccountBeforeTerms(pub Authenticated);

/// The access token of a request, unchecked.
pub struct BearerToken(pub Token);

impl FromRequest for BearerToken {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(bearer_token(request).map(Self))
    }
}

impl FromRequest for AccountBeforeTerms {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(bearer_token(request).and_then(|token| account_before_terms(request, &token)).map(Self))
    }
}

impl FromRequest for Account {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(bearer_token(request).and_then(|token| account(request, &token)).map(Self))
    }
}

/// Like [`Account`], but the token may also be in the query: Synapse still sends it to `/hash_details` that way.
pub struct AccountFromHeaderOrQuery;

impl FromRequest for AccountFromHeaderOrQuery {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        #[derive(Deserialize)]
        struct Query {
            access_token: Option<String>,
        }
        let token = bearer_token(request).or_else(|refusal| {
            let token = query::<Query>(request)?.access_token.ok_or(refusal)?;
            Token::parse(&token).ok_or(Refusal::UnknownToken.into())
        });
        ready(token.and_then(|token| account(request, &token)).map(|_| Self))
    }
}

fn bearer_token(request: &HttpRequest) -> Result<Token, ApiError> {
    let header = request.headers().get(AUTHORIZATION).ok_or(Refusal::MissingToken)?;
    let text = header.to_str().map_err(|_| Refusal::UnknownToken)?;
    let (scheme, token) = text.split_once(' ').ok_or(Refusal::MissingToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::MissingToken.into());
    }
    Token::parse(token.trim()).ok_or(Refusal::UnknownToken.into())
}

fn account_before_terms(request: &HttpRequest, token: &Token) -> Result<Authenticated, ApiError> {
    Ok(tokens::authenticate(&state(request)?.core, token)?)
}

fn account(request: &HttpRequest, token: &Token) -> Result<Authenticated, ApiError> {
    let account = account_before_terms(request, token)?;
    terms::require_accepted(&state(request)?.core, &account)?;
    Ok(account)
}

fn state(request: &HttpRequest) -> Result<&State, ApiError> {
    request.app_data::<Data<State>>().map(|state| state.get_ref()).ok_or(ApiError::Internal)
}

fn config(request: &HttpRequest) -> &Config {
    &request.app_data::<Data<State>>().expect("every app has its state").core.config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(peer: Peer, forwarded: &str) -> String {
        client_address(peer, forwarded.as_bytes(), &Config::default()).to_string()
    }

    fn client(peer: &str, forwarded: &str) -> String {
        behind(Peer::Address(peer.parse().expect("an address")), forwarded)
    }

    #[test]
    fn a_unix_socket_is_a_proxy_and_a_client_that_is_gone_is_not() {
        let with = |peer, networks: &[&str]| {
            let mut config = Config::default();
            config.http.trusted_proxies =
                networks.iter().map(|net| net.parse().expect("a network")).collect();
            client_address(peer, b"198.51.100.1", &config).to_string()
        };
        assert_eq!(behind(Peer::UnixSocket, "198.51.100.1"), "198.51.100.1");
        assert_eq!(behind(Peer::UnixSocket, "6.6.6.6, 198.51.100.1"), "198.51.100.1");
        assert_eq!(behind(Peer::UnixSocket, ""), "127.0.0.1");
        assert_eq!(with(Peer::UnixSocket, &[]), "198.51.100.1");
        assert_eq!(behind(Peer::Gone, "198.51.100.1"), "0.0.0.0");
        assert_eq!(with(Peer::Gone, &["0.0.0.0/0"]), "0.0.0.0");
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(client("203.0.113.7", "198.51.100.1"), "203.0.113.7");
        assert_eq!(client("127.0.0.1", "198.51.100.1"), "198.51.100.1");
        assert_eq!(client("127.0.0.1", "6.6.6.6, 198.51.100.1"), "198.51.100.1");
        assert_eq!(client("127.0.0.1", "198.51.100.1, 127.0.0.1"), "198.51.100.1");
        assert_eq!(client("::1", "2001:db8::1"), "2001:db8::1");
        assert_eq!(client("127.0.0.1", "198.51.100.1:4711"), "198.51.100.1");
        assert_eq!(client("127.0.0.1", "6.6.6.6, 198.51.100.1:4711, 127.0.0.1:80"), "198.51.100.1");
        assert_eq!(client("::1", "[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(client("::1", "[2001:db8::1]"), "2001:db8::1");
        for nonsense in ["nonsense", "198.51.100.1:", "198.51.100.1:99999", "[198.51.100.1:80", "[]", ":80"] {
            assert_eq!(client("127.0.0.1", nonsense), "127.0.0.1", "{nonsense}");
        }
        assert_eq!(client("127.0.0.1", ""), "127.0.0.1");
        assert_eq!(client("127.0.0.1", "\u{ff}, 198.51.100.1"), "198.51.100.1");
    }
}
