//! The pool of connections to the mail relay.
//!
//! The operator bounds their number. Mails that a person waits for and mails of the outbox share them, so that neither
//! delays the other. A connection is reused for the next mail, and dropped at its first error or timeout, so that a
//! late answer is never read as the answer to the next command.

mod connect;
mod error;
mod replies;
mod shares;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lettre::{
    Address, Message,
    transport::smtp::{
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt},
        extension::{Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant as TokioInstant, timeout, timeout_at},
};

pub use self::{
    connect::{Connector, Security},
    error::{RelayError, Stage},
};
use self::{error::ConnectError, shares::Shares};
use crate::domain::{outbox::Kind, registrable::registrable_domain};

/// An idle connection is not reused after this: a firewall may have dropped it.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// One mail relay.
pub struct Relay {
    connector: Connector,
    /// How long a mail may take, until the relay's last answer. For a queued mail this begins once it has its permit,
    /// for another before it waits for a connection.
    timeout: Duration,
    connections: Semaphore,
    /// From two connections on, this leaves one for mails that a person waits for.
    outbox_permits: Semaphore,
    /// From three on, this leaves one more for notices to owners: strangers choose who is invited.
    invitation_permits: Semaphore,
    /// How many connections one registrable domain may use for queued mails, and how many for mails that a person waits
    /// for. From three on, both together leave one for other domains.
    outbox_domain_shares: Shares,
    request_domain_shares: Shares,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

/// The right to use one of the connections.
#[must_use]
#[derive(Default)]
pub struct ConnectionPermit<'a> {
    _permits: Vec<SemaphorePermit<'a>>,
    _domain_permit: Option<OwnedSemaphorePermit>,
}

impl Relay {
    /// Opens at most `connections` connections at a time, the first when the first mail is sent.
    pub fn new(connector: Connector, timeout: Duration, connections: usize) -> Self {
        let connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        let all_but = |reserved| Semaphore::new(connections.saturating_sub(reserved).max(1));
        let half = connections / 2;
        Self {
            connector,
            timeout,
            connections: all_but(0),
            outbox_permits: all_but(1),
            invitation_permits: all_but(2),
            outbox_domain_shares: Shares::new((connections - half).saturating_sub(1)),
            request_domain_shares: Shares::new(half),
            idle: Mutex::default(),
        }
    }

    /// Waits until a queued mail to this registrable domain may use a connection.
    pub async fn acquire_for_outbox(&self, kind: Kind, domain: &str) -> ConnectionPermit<'_> {
        let mut permits = Vec::new();
        // No semaphore is ever closed, so there is always a permit.
        if kind == Kind::InvitationMail {
            permits.extend(self.invitation_permits.acquire().await);
        }
        let domain_permit = self.outbox_domain_shares.take(domain).await;
        permits.extend(self.outbox_permits.acquire().await);
        permits.extend(self.connections.acquire().await);
        ConnectionPermit { _permits: permits, _domain_permit: domain_permit }
    }

    /// How many queued mails to one registrable domain may use a connection at a time.
    pub fn max_for_domain(&self) -> usize {
        self.outbox_domain_shares.max()
    }

    /// Waits until a mail that a person waits for may use a connection.
    async fn acquire_for_request(&self, message: &Message) -> ConnectionPermit<'_> {
        let domain = message.envelope().to().first().map_or("", Address::domain);
        let domain_permit = self.request_domain_shares.take(&registrable_domain(domain)).await;
        let permits = self.connections.acquire().await.into_iter().collect();
        ConnectionPermit { _permits: permits, _domain_permit: domain_permit }
    }

    /// Sends a mail. If `permit` is `None`, first waits for a connection, for at most half of the timeout.
    ///
    /// # Errors
    /// If the relay did not accept the mail before the timeout.
    #[expect(
        clippy::disallowed_methods,
        reason = "the timeout and the age of a connection are about real time"
    )]
    pub async fn send(
        &self,
        message: &Message,
        permit: Option<ConnectionPermit<'_>>,
    ) -> Result<(), RelayError> {
        // lettre has a timeout only for connecting.
        let deadline = TokioInstant::now() + self.timeout;
        let _permit = match permit {
            Some(permit) => permit,
            // The other half is for the relay, which must not seem unreachable because other mails were slow.
            None => timeout(self.timeout / 2, self.acquire_for_request(message))
                .await
                .map_err(|_| RelayError::NoFreeConnection)?,
        };
        let connected = timeout_at(deadline, self.connection()).await;
        let connected = connected.map_err(|_| RelayError::NoConnection(None))?;
        let mut connection = connected.map_err(|error| RelayError::NoConnection(Some(error)))?;
        let mut stage = Stage::Sender;
        match timeout_at(deadline, send_on(&mut connection, message, &mut stage)).await {
            Ok(Ok(())) => {
                self.idle().push((Instant::now(), connection));
                Ok(())
            }
            Ok(Err(error)) => {
                // What the relay said about the mail counts, even if it says nothing to QUIT.
                let _ = timeout_at(deadline, connection.abort()).await;
                Err(error)
            }
            Err(_) => Err(RelayError::Timeout(stage)),
        }
    }

    /// An idle connection or a new one.
    async fn connection(&self) -> Result<AsyncSmtpConnection, ConnectError> {
        loop {
            let Some((since, mut connection)) = self.idle().pop() else {
                return self.connector.connect().await;
            };
            if since.elapsed() < MAX_IDLE && connection.test_connected().await {
                return Ok(connection);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, AsyncSmtpConnection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a mail as lettre does, and keeps in `stage` how far it has come.
async fn send_on(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
    stage: &mut Stage,
) -> Result<(), RelayError> {
    let (envelope, text) = (message.envelope(), message.formatted());
    let offers = |extension| connection.server_info().supports_feature(extension);
    let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    let mut parameters = Vec::new();
    if !envelope.from().into_iter().chain(envelope.to()).all(is_ascii) {
        if !offers(Extension::SmtpUtfEight) {
            return Err(RelayError::NotOffered("SMTPUTF8"));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !text.is_ascii() {
        if !offers(Extension::EightBitMime) {
            return Err(RelayError::NotOffered("8BITMIME"));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let sent = async {
        connection.command(Mail::new(envelope.from().cloned(), parameters)).await?;
        *stage = Stage::Recipient;
        for address in envelope.to() {
            connection.command(Rcpt::new(address.clone(), Vec::new())).await?;
        }
        *stage = Stage::Message;
        connection.command(Data).await?;
        connection.message(&text).await
    };
    let sent = sent.await;
    sent.map(drop).map_err(|error| RelayError::Smtp(*stage, error))
}
