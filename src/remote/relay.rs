//! The pool of connections to the mail relay.
//!
//! The operator bounds their number. A connection is reused for the next mail, and dropped at its first error or
//! timeout, so that a late answer is never read as the answer to the next command.

use std::{
    error::Error as _,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lettre::{
    Address, Message,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Tls},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant as TokioInstant, timeout_at},
};

/// An idle connection is not reused after this: a firewall may have dropped it.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// One mail relay.
pub struct Relay {
    host: String,
    port: u16,
    /// The name that Bindery gives in EHLO.
    hello: ClientId,
    tls: Tls,
    credentials: Option<Credentials>,
    /// The timeout of one mail, from the wait for a connection to the relay's last answer.
    timeout: Duration,
    connections: Semaphore,
    idle: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

/// Why the relay did not accept a mail.
pub enum RelayError {
    /// There was no connection before the timeout, or connecting failed.
    NoConnection(Option<Error>),
    /// The relay did not accept the mail before the timeout.
    Timeout,
    /// The relay does not offer an SMTP extension that the mail needs.
    NotOffered(&'static str),
    /// The relay refused the mail at this stage, or the connection broke.
    Smtp(Stage, Error),
}

/// The command of a mail that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `MAIL FROM`
    Sender,
    /// `RCPT TO`
    Recipient,
    /// `DATA` and the message.
    Message,
}

impl Relay {
    /// Connects when the first mail is sent; to at most `connections` at a time.
    pub fn new(
        (host, port): (String, u16),
        hello: ClientId,
        tls: Tls,
        credentials: Option<Credentials>,
        timeout: Duration,
        connections: usize,
    ) -> Self {
        let connections = Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS));
        Self { host, port, hello, tls, credentials, timeout, connections, idle: Mutex::default() }
    }

    /// Sends a mail.
    ///
    /// # Errors
    /// If the relay did not accept the mail before the timeout.
    #[expect(
        clippy::disallowed_methods,
        reason = "the timeout and the age of a connection are about real time"
    )]
    pub async fn send(&self, message: &Message) -> Result<(), RelayError> {
        // lettre has a timeout only for connecting.
        let deadline = TokioInstant::now() + self.timeout;
        let connected = timeout_at(deadline, self.connection()).await;
        let connected = connected.map_err(|_| RelayError::NoConnection(None))?;
        let (_permit, mut connection) = connected.map_err(|error| RelayError::NoConnection(Some(error)))?;
        let sent = timeout_at(deadline, async {
            let sent = send_on(&mut connection, message).await;
            if sent.is_err() {
                connection.abort().await;
            }
            sent
        });
        sent.await.map_err(|_| RelayError::Timeout)??;
        self.idle().push((Instant::now(), connection));
        Ok(())
    }

    /// An idle connection or a new one, with the permit that it counts against.
    async fn connection(&self) -> Result<(Option<SemaphorePermit<'_>>, AsyncSmtpConnection), Error> {
        // The semaphore is never closed, so there is always a permit.
        let permit = self.connections.acquire().await.ok();
        Ok(match self.take_idle().await {
            Some(connection) => (permit, connection),
            None => (permit, self.connect().await?),
        })
    }

    async fn take_idle(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (since, mut connection) = self.idle().pop()?;
            if since.elapsed() < MAX_IDLE && connection.test_connected().await {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let wrapper = match &self.tls {
            Tls::Wrapper(tls) => Some(tls.clone()),
            _ => None,
        };
        let address = (self.host.as_str(), self.port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(address, Some(self.timeout), &self.hello, wrapper, None);
        let mut connection = connecting.await?;
        if let Tls::Required(tls) = &self.tls {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, AsyncSmtpConnection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a mail as lettre does; an error also says at which stage.
async fn send_on(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), RelayError> {
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
    let at = |stage| move |error| RelayError::Smtp(stage, error);
    connection.command(Mail::new(envelope.from().cloned(), parameters)).await.map_err(at(Stage::Sender))?;
    for address in envelope.to() {
        let recipient = Rcpt::new(address.clone(), Vec::new());
        connection.command(recipient).await.map_err(at(Stage::Recipient))?;
    }
    connection.command(Data).await.map_err(at(Stage::Message))?;
    connection.message(&text).await.map_err(at(Stage::Message))?;
    Ok(())
}

impl RelayError {
    /// Whether every retry would fail too: the mail needs an extension that the relay does not offer, or the relay
    /// says that there is no such mailbox. Other refusals, by quota or policy, are about the sender or may end.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NotOffered(_) => true,
            Self::Smtp(Stage::Recipient | Stage::Message, error) if error.is_permanent() => {
                match enhanced_status(error) {
                    // RFC 3463 section 3.2; 7 and 8 are about the sender.
                    Some((class, subject, detail)) => class == 5 && subject == 1 && ![7, 8].contains(&detail),
                    // RFC 5321 section 4.2.2. After the whole message, these may be about anything.
                    None => matches!(self, Self::Smtp(Stage::Recipient, _)) && names_the_mailbox(error),
                }
            }
            _ => false,
        }
    }

    /// Whether other mails would fail now as well, because the relay cannot be reached.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::NoConnection(_) => true,
            Self::Timeout | Self::NotOffered(_) => false,
            Self::Smtp(_, error) => error.status().is_none(),
        }
    }

    /// Whether the relay may accept mails to others. Some relays ask the recipient's own relay, which may be slow.
    pub fn may_be_about_the_recipient(&self) -> bool {
        match self {
            Self::NoConnection(_) | Self::Smtp(Stage::Sender, _) => false,
            Self::Timeout | Self::NotOffered(_) => true,
            Self::Smtp(Stage::Recipient | Stage::Message, error) => error.status().is_some(),
        }
    }

    fn error(&self) -> Option<&Error> {
        match self {
            Self::NoConnection(error) => error.as_ref(),
            Self::Timeout | Self::NotOffered(_) => None,
            Self::Smtp(_, error) => Some(error),
        }
    }

    /// The status that the relay answered with, if it did.
    pub fn status(&self) -> Option<String> {
        self.error().and_then(Error::status).map(|code| code.to_string())
    }

    /// What happened, for the log. It leaves out the relay's own text, which may quote an address.
    pub fn reason(&self) -> String {
        if let Self::NotOffered(extension) = self {
            return format!("the mail needs {extension}, which the relay does not offer");
        }
        let Some(error) = self.error() else {
            return "the relay did not answer before mail.smtp.timeout_seconds".to_owned();
        };
        match error {
            _ if error.is_permanent() => "the relay refused it".to_owned(),
            _ if error.is_transient() => "the relay refused it for now".to_owned(),
            // lettre's own text, about an extension or mechanism that the relay does not offer.
            _ if error.is_client() => error.to_string(),
            _ if error.is_response() => "the relay's answer is not SMTP".to_owned(),
            _ => match tls_problem(error) {
                Some(problem) => format!("TLS to the relay failed: {problem}"),
                None => "the relay cannot be reached, or the connection broke".to_owned(),
            },
        }
    }
}

fn names_the_mailbox(error: &Error) -> bool {
    error.status().is_some_and(|code| [550, 551, 553].contains(&u16::from(code)))
}

/// The enhanced status (RFC 2034) at the start of an answer.
fn enhanced_status(error: &Error) -> Option<(u16, u16, u16)> {
    let answer = error.source()?.to_string();
    let mut numbers = answer.split(' ').next()?.splitn(3, '.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn tls_problem(error: &Error) -> Option<&rustls::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(problem) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(problem);
        }
        source = error.source();
    }
    None
}
