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
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use lettre::{
    Address, Message,
    transport::smtp::{
        Error,
        client::AsyncSmtpConnection,
        commands::{Data, Mail, Rcpt, Rset},
        extension::{Extension, MailBodyParameter, MailParameter},
        response::{Response, Severity},
    },
};
use tokio::time::{Instant as TokioInstant, sleep, sleep_until, timeout, timeout_at};

pub use self::{
    connect::{Connector, Security},
    error::{RelayError, Stage},
};
use self::{
    error::ConnectError,
    shares::{Share, Shares, Taken},
};
use super::lengths::Lengths;
use crate::domain::{ids::UserId, outbox::Kind, registrable::registrable_domain};

/// How long the relay may take to accept the message of a queued mail. It may filter or deliver it first, and a mail
/// whose acceptance Bindery does not hear is sent again. RFC 5321 section 4.5.3.2.6 asks for ten minutes, but strangers
/// could hold the connections for that long.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(120);

/// An idle connection is not reused after this: a firewall may have dropped it.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// One mail relay.
pub struct Relay {
    connector: Connector,
    /// How long a mail may take, until the relay has accepted its recipient, or the whole mail if a person waits for it.
    /// It begins once a queued mail has its permit, otherwise before the wait for a connection.
    timeout: Duration,
    shares: Shares,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
    /// How long the relay took to accept recent messages, after their recipients.
    lengths: Lengths,
}

/// What happens once the relay has accepted the recipient.
#[derive(Clone, Copy)]
enum End {
    Deliver,
    Cancel,
}

/// The right to use one of the connections.
#[must_use]
#[derive(Default)]
pub struct ConnectionPermit<'a> {
    _taken: Option<Taken<'a>>,
    is_for_slow_domain: bool,
    connected_at: ConnectedAt,
}

/// When a mail got its connection: connecting takes as long for every recipient.
pub type ConnectedAt = Arc<OnceLock<Instant>>;

impl ConnectionPermit<'_> {
    /// Gives the mail half of the timeout, because the relay was slow about its domain before.
    pub fn for_slow_domain(self) -> Self {
        Self { is_for_slow_domain: true, ..self }
    }

    /// Set once the mail has its connection.
    pub fn connected_at(&self) -> ConnectedAt {
        self.connected_at.clone()
    }
}

/// Who waits for a mail.
#[derive(Clone, Copy)]
pub enum Asker<'a> {
    /// An account that asks somebody to confirm an address.
    Account(&'a UserId),
    /// Somebody who asks for the link to their own page. Bindery does not know who it is.
    Visitor,
}

/// On what terms a mail gets a connection.
pub enum Terms<'a> {
    /// A queued mail, which has its permit.
    Queued(ConnectionPermit<'a>),
    /// A mail that somebody waits for. It waits for a connection, for at most half of the timeout.
    AskedBy(Asker<'a>),
}

impl Relay {
    /// Opens at most `connections` connections at a time, the first when the first mail is sent.
    pub fn new(connector: Connector, timeout: Duration, connections: usize) -> Self {
        Self {
            connector,
            timeout,
            shares: Shares::of(connections.max(1)),
            idle: Mutex::default(),
            // A relay close by.
            lengths: Lengths::new(10..50),
        }
    }

    /// Waits until a queued mail to this registrable domain may use a connection. `is_quick` says whether the last mail to
    /// the domain was.
    pub async fn acquire_for_outbox(&self, kind: Kind, domain: &str, is_quick: bool) -> ConnectionPermit<'_> {
        let mut needed = vec![Share::Connections, Share::Queued, Share::QueuedTo(domain.to_owned())];
        if kind == Kind::InvitationMail {
            needed.push(Share::Invitations);
        }
        if !is_quick {
            needed.push(Share::QueuedNotQuick(kind));
        }
        ConnectionPermit { _taken: Some(self.shares.take(needed).await), ..ConnectionPermit::default() }
    }

    /// How many queued mails to one registrable domain may use a connection at a time.
    pub fn max_for_domain(&self) -> usize {
        self.shares.max(&Share::QueuedTo(String::new()))
    }

    /// Waits until a mail that a person waits for may use a connection.
    async fn acquire_for_request(&self, asker: Asker<'_>, message: &Message) -> ConnectionPermit<'_> {
        let domain = message.envelope().to().first().map_or("", Address::domain);
        let mut needed = vec![Share::Connections, Share::RequestedTo(registrable_domain(domain))];
        match asker {
            Asker::Account(account) => needed.extend([
                Share::Asker(account.as_str().to_owned()),
                Share::AskersAt(registrable_domain(account.server_name())),
            ]),
            Asker::Visitor => needed.push(Share::Visitors),
        }
        ConnectionPermit { _taken: Some(self.shares.take(needed).await), ..ConnectionPermit::default() }
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// If the relay did not accept the mail before the timeout.
    pub async fn send(&self, message: &Message, terms: Terms<'_>) -> Result<(), RelayError> {
        self.transact(message, terms, End::Deliver).await
    }

    /// Does what [`Relay::send`] does, but cancels the mail after the relay has accepted its recipient, and takes as long
    /// as if it had delivered it.
    ///
    /// # Errors
    /// As [`Relay::send`].
    pub async fn rehearse(&self, message: &Message, asker: Asker<'_>) -> Result<(), RelayError> {
        self.transact(message, Terms::AskedBy(asker), End::Cancel).await
    }

    /// Keeps a permit for as long as the relay took to accept a recent message, and sends nothing.
    pub async fn pass_turn(&self, permit: ConnectionPermit<'_>) {
        sleep(self.lengths.draw()).await;
        drop(permit);
    }

    /// Waits for a connection as [`Relay::send`] does for a mail that somebody waits for, passes its turn, and sends nothing.
    ///
    /// # Errors
    /// If no connection was free.
    pub async fn pass_asked_turn(&self, message: &Message, asker: Asker<'_>) -> Result<(), RelayError> {
        self.pass_turn(self.wait_for_request(asker, message).await?).await;
        Ok(())
    }

    /// At most half of the timeout. The other half is for the relay, which must not seem unreachable because other mails
    /// were slow.
    async fn wait_for_request(
        &self,
        asker: Asker<'_>,
        message: &Message,
    ) -> Result<ConnectionPermit<'_>, RelayError> {
        let permit = timeout(self.timeout / 2, self.acquire_for_request(asker, message)).await;
        permit.map_err(|_| RelayError::NoFreeConnection)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the timeout and the age of a connection are about real time"
    )]
    async fn transact(&self, message: &Message, terms: Terms<'_>, end: End) -> Result<(), RelayError> {
        let is_queued = matches!(terms, Terms::Queued(_));
        // lettre has a timeout only for connecting.
        let deadline = TokioInstant::now()
            + match &terms {
                Terms::Queued(permit) if permit.is_for_slow_domain => self.timeout / 2,
                Terms::Queued(_) | Terms::AskedBy(_) => self.timeout,
            };
        let permit = match terms {
            Terms::Queued(permit) => permit,
            Terms::AskedBy(asker) => self.wait_for_request(asker, message).await?,
        };
        let connected = timeout_at(deadline, self.connection()).await;
        let connected = connected.map_err(|_| RelayError::NoConnection(None))?;
        let mut connection = connected.map_err(|error| RelayError::NoConnection(Some(error)))?;
        let _ = permit.connected_at.set(Instant::now());
        let mut stage = Stage::Sender;
        let announced = timeout_at(deadline, announce(&mut connection, message, &mut stage)).await;
        let mut sent = announced.unwrap_or(Err(RelayError::Timeout(stage)));
        if sent.is_ok() {
            let deadline = if is_queued { TokioInstant::now() + MESSAGE_TIMEOUT } else { deadline };
            let ended = timeout_at(deadline, self.end(&mut connection, message, end, is_queued)).await;
            sent = ended.unwrap_or(Err(RelayError::Timeout(Stage::Message)));
        }
        match &sent {
            Ok(()) => self.idle().push((Instant::now(), connection)),
            // What the relay has not answered, it may still answer.
            Err(RelayError::Timeout(_)) => {}
            // What the relay said about the mail counts, even if it says nothing to QUIT.
            Err(_) => drop(timeout_at(deadline, connection.abort()).await),
        }
        sent
    }

    /// Hands over the message, or cancels the mail and takes as long.
    async fn end(
        &self,
        connection: &mut AsyncSmtpConnection,
        message: &Message,
        end: End,
        is_queued: bool,
    ) -> Result<(), RelayError> {
        match end {
            End::Deliver => {
                #[expect(clippy::disallowed_methods, reason = "how long a delivery takes is real time")]
                let started = Instant::now();
                hand_over(connection, message).await?;
                if !is_queued {
                    self.lengths.remember(started.elapsed());
                }
            }
            End::Cancel => {
                #[expect(clippy::disallowed_methods, reason = "how long a delivery takes is real time")]
                let end = TokioInstant::now() + self.lengths.draw();
                command(connection, Rset, Severity::PositiveCompletion, Stage::Message).await?;
                sleep_until(end).await;
            }
        }
        Ok(())
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

/// Names the sender and the recipient, and keeps in `stage` how far it has come.
async fn announce(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
    stage: &mut Stage,
) -> Result<(), RelayError> {
    let envelope = message.envelope();
    let offers = |extension| connection.server_info().supports_feature(extension);
    let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    let mut parameters = Vec::new();
    if !envelope.from().into_iter().chain(envelope.to()).all(is_ascii) {
        if !offers(Extension::SmtpUtfEight) {
            return Err(RelayError::NotOffered("SMTPUTF8"));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !message.formatted().is_ascii() {
        if !offers(Extension::EightBitMime) {
            return Err(RelayError::NotOffered("8BITMIME"));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let done = Severity::PositiveCompletion;
    command(connection, Mail::new(envelope.from().cloned(), parameters), done, *stage).await?;
    *stage = Stage::Recipient;
    for address in envelope.to() {
        command(connection, Rcpt::new(address.clone(), Vec::new()), done, *stage).await?;
    }
    Ok(())
}

async fn hand_over(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), RelayError> {
    command(connection, Data, Severity::PositiveIntermediate, Stage::Message).await?;
    let answer = connection.message(&message.formatted()).await;
    require(answer, Severity::PositiveCompletion, Stage::Message)
}

async fn command(
    connection: &mut AsyncSmtpConnection,
    command: impl Display,
    wanted: Severity,
    stage: Stage,
) -> Result<(), RelayError> {
    require(connection.command(command).await, wanted, stage)
}

/// Demands an answer that fits the command. A relay that once said a line too much is a line behind from then on, and
/// its consent to `DATA` must not count for the message.
fn require(answer: Result<Response, Error>, wanted: Severity, stage: Stage) -> Result<(), RelayError> {
    let answer = answer.map_err(|error| RelayError::Smtp(stage, error))?;
    if answer.code().severity == wanted { Ok(()) } else { Err(RelayError::OutOfStep(stage)) }
}
