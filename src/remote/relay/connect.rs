//! Connects to the mail relay: TCP, TLS or STARTTLS, EHLO, login.

use std::{io, sync::Arc, time::Duration};

use lettre::transport::smtp::{
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, AsyncTokioStream},
    commands::Starttls,
    extension::{ClientId, Extension},
};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{error::ConnectError, replies::NormalizedStream};
use crate::remote::dns::Dns;

/// The timeout for connecting to one address of the relay, so that there is time left for the next one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the relay is reached.
pub struct Connector {
    /// Resolves the host.
    pub dns: Arc<Dns>,
    /// A name or an IP address.
    pub host: String,
    /// See `mail.smtp.port`.
    pub port: u16,
    /// The name that Bindery gives in EHLO.
    pub hello: ClientId,
    /// See `mail.smtp.security`.
    pub security: Security,
    /// The user name and password, if the relay requires them.
    pub credentials: Option<Credentials>,
}

/// The encryption of the connection.
pub enum Security {
    /// TLS from the first byte (RFC 8314).
    Tls(TlsConnector),
    /// STARTTLS (RFC 3207). Without it, nothing is sent.
    Starttls(TlsConnector),
    /// In the clear.
    None,
}

impl Connector {
    pub(super) async fn connect(&self) -> Result<AsyncSmtpConnection, ConnectError> {
        let stream = self.dial().await?;
        let name = || ServerName::try_from(self.host.clone()).map_err(io::Error::other);
        let stream: Box<dyn AsyncTokioStream> = match &self.security {
            Security::None => Box::new(NormalizedStream::of(stream)),
            Security::Tls(tls) => Box::new(NormalizedStream::of(tls.connect(name()?, stream).await?)),
            Security::Starttls(tls) => {
                let stream = self.start_tls(stream).await?;
                Box::new(NormalizedStream::after_greeting(tls.connect(name()?, stream).await?))
            }
        };
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await?;
        if let Some(credentials) = &self.credentials {
            log_in(&mut connection, credentials).await?;
        }
        Ok(connection)
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let mut problem = io::Error::new(io::ErrorKind::NotFound, "DNS has no address of mail.smtp.host");
        for address in self.dns.addresses_of_configured(&self.host).await {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect((address, self.port))).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => problem = error,
                Err(_) => problem = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(problem)
    }

    /// Sends STARTTLS, so that the relay expects a TLS handshake next.
    async fn start_tls(&self, stream: TcpStream) -> Result<TcpStream, ConnectError> {
        let stream = stream.into_std()?;
        let for_tls = stream.try_clone()?;
        // The clear connection is dropped with its buffer. An attacker on the path may have put replies into it
        // (RFC 3207 section 4.2).
        let clear = Box::new(NormalizedStream::of(TcpStream::from_std(stream)?));
        let mut clear = AsyncSmtpConnection::connect_with_transport(clear, &self.hello).await?;
        if !clear.server_info().supports_feature(Extension::StartTls) {
            clear.abort().await;
            return Err(ConnectError::NotOffered("STARTTLS"));
        }
        clear.command(Starttls).await?;
        Ok(TcpStream::from_std(for_tls)?)
    }
}

/// Tries the mechanisms that the relay offers. Some offer one that they refuse for every user.
async fn log_in(connection: &mut AsyncSmtpConnection, credentials: &Credentials) -> Result<(), ConnectError> {
    let mut problem = ConnectError::NotOffered("a login by PLAIN or LOGIN");
    for mechanism in DEFAULT_MECHANISMS {
        if !connection.server_info().supports_auth_mechanism(*mechanism) {
            continue;
        }
        match connection.auth(&[*mechanism], credentials).await {
            Ok(_) => return Ok(()),
            Err(error) if error.status().is_some() => problem = error.into(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(problem)
}
