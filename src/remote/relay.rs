//! The connections to the mail relay: no more than the operator allows, kept for the next mail,
//! and each dropped at the first thing that goes wrong on it, silence included, so that no answer
//! is ever taken for the answer to something else.

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
    time::{Instant as Moment, timeout_at},
};

/// A connection that waited longer is not used again: something between may have forgotten it.
const IDLE: Duration = Duration::from_secs(60);

/// The way to one relay.
pub struct Relay {
    host: String,
    port: u16,
    /// How we greet it.
    hello: ClientId,
    tls: Tls,
    credentials: Option<Credentials>,
    /// How long one mail may take, from the wait for a connection to the relay's last word.
    patience: Duration,
    connections: Semaphore,
    waiting: Mutex<Vec<(Instant, AsyncSmtpConnection)>>,
}

/// Why the relay did not take a mail.
pub enum Trouble {
    /// There was no connection that mail can be sent on, in time or at all.
    NoConnection(Option<Error>),
    /// It took too long over this mail.
    TooLate,
    /// It does not have this extension, without which the mail cannot be sent.
    NotOffered(&'static str),
    /// It refused the mail at this point, or the connection broke.
    Smtp(At, Error),
}

/// How far the relay had heard of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Who sends it.
    Sender,
    /// To whom.
    Recipient,
    /// The mail itself.
    Message,
}

impl Relay {
    /// A way that nothing has gone yet, with at most `connections` at a time.
    pub fn new(
        (host, port): (String, u16),
        hello: ClientId,
        tls: Tls,
        credentials: Option<Credentials>,
        patience: Duration,
        connections: usize,
    ) -> Self {
        let connections = Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS));
        Self { host, port, hello, tls, credentials, patience, connections, waiting: Mutex::default() }
    }

    /// Hands a mail to the relay.
    ///
    /// # Errors
    /// If the relay has not said in time that it has the mail.
    pub async fn send(&self, message: &Message) -> Result<(), Trouble> {
        // lettre limits only the time to connect.
        let deadline = Moment::now() + self.patience;
        let connected = timeout_at(deadline, self.connection()).await;
        let connected = connected.map_err(|_| Trouble::NoConnection(None))?;
        let (_one_of_them, mut connection) = connected.map_err(|error| Trouble::NoConnection(Some(error)))?;
        let handed_over = timeout_at(deadline, async {
            let handed_over = hand_over(&mut connection, message).await;
            if handed_over.is_err() {
                connection.abort().await;
            }
            handed_over
        });
        handed_over.await.map_err(|_| Trouble::TooLate)??;
        self.waiting().push((Instant::now(), connection));
        Ok(())
    }

    /// A connection, and the right to have one.
    async fn connection(&self) -> Result<(Option<SemaphorePermit<'_>>, AsyncSmtpConnection), Error> {
        // It is never closed.
        let one_of_them = self.connections.acquire().await.ok();
        Ok(match self.waiting_connection().await {
            Some(connection) => (one_of_them, connection),
            None => (one_of_them, self.connect().await?),
        })
    }

    async fn waiting_connection(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (since, mut connection) = self.waiting().pop()?;
            if since.elapsed() < IDLE && connection.test_connected().await {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let at_once = match &self.tls {
            Tls::Wrapper(tls) => Some(tls.clone()),
            _ => None,
        };
        let address = (self.host.as_str(), self.port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(address, Some(self.patience), &self.hello, at_once, None);
        let mut connection = connecting.await?;
        if let Tls::Required(tls) = &self.tls {
            connection.starttls(tls.clone(), &self.hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Instant, AsyncSmtpConnection)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As lettre does it, and saying how far it came.
async fn hand_over(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), Trouble> {
    let (envelope, text) = (message.envelope(), message.formatted());
    let offers = |extension| connection.server_info().supports_feature(extension);
    let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
    let mut parameters = Vec::new();
    if !envelope.from().into_iter().chain(envelope.to()).all(is_ascii) {
        if !offers(Extension::SmtpUtfEight) {
            return Err(Trouble::NotOffered("SMTPUTF8"));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !text.is_ascii() {
        if !offers(Extension::EightBitMime) {
            return Err(Trouble::NotOffered("8BITMIME"));
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let at = |point| move |error| Trouble::Smtp(point, error);
    connection.command(Mail::new(envelope.from().cloned(), parameters)).await.map_err(at(At::Sender))?;
    for address in envelope.to() {
        let recipient = Rcpt::new(address.clone(), Vec::new());
        connection.command(recipient).await.map_err(at(At::Recipient))?;
    }
    connection.command(Data).await.map_err(at(At::Message))?;
    connection.message(&text).await.map_err(at(At::Message))?;
    Ok(())
}

impl Trouble {
    /// Whether the mail can never be sent: it needs what the relay does not have, or the relay
    /// says that there is no such mailbox. All other refusals, such as those by quota or policy,
    /// are about us or may end.
    pub fn is_for_good(&self) -> bool {
        match self {
            Self::NotOffered(_) => true,
            Self::Smtp(At::Recipient | At::Message, error) if error.is_permanent() => {
                match enhanced_status(error) {
                    // RFC 3463 section 3.2; 7 and 8 are about the sender.
                    Some((class, subject, detail)) => class == 5 && subject == 1 && ![7, 8].contains(&detail),
                    // RFC 5321 section 4.2.2. After the whole message, these may be about anything.
                    None => matches!(self, Self::Smtp(At::Recipient, _)) && is_about_a_mailbox(error),
                }
            }
            _ => false,
        }
    }

    /// Whether other mails would fare no better just now: there is no talking to the relay.
    pub fn is_about_the_relay(&self) -> bool {
        match self {
            Self::NoConnection(_) => true,
            Self::TooLate | Self::NotOffered(_) => false,
            Self::Smtp(_, error) => error.status().is_none(),
        }
    }

    fn error(&self) -> Option<&Error> {
        match self {
            Self::NoConnection(error) => error.as_ref(),
            Self::TooLate | Self::NotOffered(_) => None,
            Self::Smtp(_, error) => Some(error),
        }
    }

    /// The status that the relay answered with, if it did.
    pub fn status(&self) -> Option<String> {
        self.error().and_then(Error::status).map(|code| code.to_string())
    }

    /// What happened, without the relay's own words, which may quote an address.
    pub fn reason(&self) -> String {
        if let Self::NotOffered(extension) = self {
            return format!("the relay does not offer {extension}, which this mail needs");
        }
        let Some(error) = self.error() else { return "the relay took too long".to_owned() };
        match error {
            _ if error.is_permanent() => "refused by the relay".to_owned(),
            _ if error.is_transient() => "refused by the relay for now".to_owned(),
            // These are sentences of lettre's, about what the relay does not offer.
            _ if error.is_client() => error.to_string(),
            _ if error.is_response() => "the relay answered with something that is not SMTP".to_owned(),
            _ => match tls_problem(error) {
                Some(problem) => format!("TLS to the relay failed: {problem}"),
                None => "the relay could not be reached, or the connection broke".to_owned(),
            },
        }
    }
}

fn is_about_a_mailbox(error: &Error) -> bool {
    error.status().is_some_and(|code| [550, 551, 553].contains(&u16::from(code)))
}

/// The enhanced status (RFC 2034) that an answer began with.
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
