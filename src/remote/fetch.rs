//! One HTTPS request: to checked addresses only, with the certificate checked for the right name, with a size
//! limit, and without following redirects.
//!
//! `discovery` decides where to connect. Nothing is cached here.

use std::{net::SocketAddr, path::Path, time::Duration};

use reqwest::{
    Client, Method, StatusCode,
    header::{CONTENT_TYPE, HOST, HeaderMap},
    redirect,
};
use rustls::ClientConfig;
use serde_json::Value;

use super::{
    places::Places,
    standing::Standing,
    trust::{Pinned, trust},
};

/// The place that a request goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name that the certificate must have; an IPv6 literal is in brackets.
    pub tls_name: String,
    /// The `Host` header.
    pub host_header: String,
    /// The port to connect to.
    pub port: u16,
    /// The addresses to connect to, each checked.
    pub addresses: Vec<SocketAddr>,
}

/// One request.
#[derive(Clone)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path with its query.
    pub path: &'a str,
    /// The JSON body.
    pub body: Option<&'a Value>,
}

impl<'a> Request<'a> {
    /// A GET.
    pub fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: None }
    }
}

/// The answer to a request.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why there is no usable answer. The text is for the operator's log.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There was no address that Bindery may connect to.
    #[error("DNS has no address for it, or only private ones (see homeservers.allowed_special_addresses)")]
    NoAddress,
    /// Too many requests go to the same address.
    #[error("too many requests go to its address")]
    Busy,
    /// The connection, TLS or HTTP failed.
    #[error("{0}")]
    Connection(String),
    /// The body exceeds the size limit.
    #[error("the answer is too large")]
    TooLarge,
}

/// The TLS configuration of all requests, and the places at the addresses that they dial.
pub struct Fetch {
    tls: ClientConfig,
    places: Places,
}

impl Fetch {
    /// Trusts the system's certificate authorities and those in `extra_ca_file`. At most `max_requests` run at the
    /// same time, far fewer to one address for unproven names.
    ///
    /// # Errors
    /// Those of [`trust`].
    pub fn new(extra_ca_file: Option<&Path>, max_requests: usize) -> anyhow::Result<Self> {
        Ok(Self { tls: trust(extra_ca_file, Pinned::ForItsNames)?, places: Places::new(max_requests) })
    }

    /// Sends `request` to `target`, on behalf of a server name of this standing, and reads at most `max_bytes` of body.
    ///
    /// Each call makes a client, because only that ties the connection to the checked addresses. It costs little:
    /// the TLS configuration is shared.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn send(
        &self,
        target: &Target,
        standing: Standing,
        request: &Request<'_>,
        max_bytes: usize,
    ) -> Result<Response, FetchError> {
        if target.addresses.is_empty() {
            return Err(FetchError::NoAddress);
        }
        let (_place, addresses) = match standing {
            Standing::Proven => (None, target.addresses.clone()),
            // Many names may lead to one address.
            Standing::Unproven => {
                let taken = self.places.take_addresses(&target.addresses).map_err(|_| FetchError::Busy)?;
                (Some(taken.0), taken.1)
            }
        };
        let client = Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("Bindery/", env!("CARGO_PKG_VERSION")))
            .resolve_to_addrs(&target.tls_name, &addresses)
            .build()
            .map_err(connection)?;
        let Request { method, path, body } = request;
        let url = format!("https://{}:{}{path}", target.tls_name, target.port);
        let mut request = client.request(method.clone(), url).header(HOST, &target.host_header);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(connection)?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Response { status, headers, body: read(response, max_bytes).await? })
    }
}

/// Reads a body of at most `max_bytes`.
pub(super) async fn read(mut response: reqwest::Response, max_bytes: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(connection)? {
        if body.len() + chunk.len() > max_bytes {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error with its causes, without the URL, which may contain a token.
pub(super) fn connection(error: reqwest::Error) -> FetchError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    FetchError::Connection(text)
}
