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
    /// The timeout of one mail: from the wait for a connection, or from [`Relay::queue_place`], to the relay's last
    /// answer.
    timeout: Duration,
    connections: Semaphore,
    /// All connections but one, which is left for mails that a person waits for.
    for_outbox: Semaphore,
    /// All but one of those, which is left for notices to owners: strangers choose who is invited.
    for_invitations: Semaphore,
    /// What one registrable domain may use of the connections for mails of the outbox, and for mails that a person
    /// waits for: together all but one.
    of_outbox: Shares,
    of_requests: Shares,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

/// The right to use one of the connections.
#[must_use]
#[derive(Default)]
pub struct Place<'a> {
    _permits: Vec<SemaphorePermit<'a>>,
    _of_domain: Option<OwnedSemaphorePermit>,
}

impl Relay {
    /// Connects when the first mail is sent; to at most `connections` at a time.
    pub fn new(connector: Connector, timeout: Duration, connections: usize) -> Self {
        let connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        let all_but = |kept| Semaphore::new(connections.saturating_sub(kept).max(1));
        let half = connections / 2;
        Self {
            connector,
            timeout,
            connections: all_but(0),
            for_outbox: all_but(1),
            for_invitations: all_but(2),
            of_outbox: Shares::new((connections - half).saturating_sub(1)),
            of_requests: Shares::new(half),
            idle: Mutex::default(),
        }
    }

    /// Waits for a place for a mail of the outbox to this registrable domain.
    pub async fn queue_place(&self, kind: Kind, domain: &str) -> Place<'_> {
        let mut permits = Vec::new();
        // No semaphore is ever closed, so there is always a permit.
        if kind == Kind::InvitationMail {
            permits.extend(self.for_invitations.acquire().await);
        }
        let of_domain = self.of_outbox.take(domain).await;
        permits.extend(self.for_outbox.acquire().await);
        permits.extend(self.connections.acquire().await);
        Place { _permits: permits, _of_domain: of_domain }
    }

    /// How many mails of the outbox to one registrable domain get places at a time.
    pub fn max_for_domain(&self) -> usize {
        self.of_outbox.max()
    }

    /// Waits for a place for a mail that a person waits for.
    async fn place(&self, message: &Message) -> Place<'_> {
        let domain = message.envelope().to().first().map_or("", Address::domain);
        let of_domain = self.of_requests.take(&registrable_domain(domain)).await;
        Place { _permits: self.connections.acquire().await.into_iter().collect(), _of_domain: of_domain }
    }

    /// Sends a mail; without a place, it waits for one, for half of the timeout at most.
    ///
    /// # Errors
    /// If the relay did not accept the mail before the timeout.
    #[expect(
        clippy::disallowed_methods,
        reason = "the timeout and the age of a connection are about real time"
    )]
    pub async fn send(&self, message: &Message, place: Option<Place<'_>>) -> Result<(), RelayError> {
        // lettre has a timeout only for connecting.
        let deadline = TokioInstant::now() + self.timeout;
        let _place = match place {
            Some(place) => place,
            // Half of the time is left: a relay that is there must not seem unreachable because others were slow.
            None => timeout(self.timeout / 2, self.place(message)).await.map_err(|_| RelayError::NoPlace)?,
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
