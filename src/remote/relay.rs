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
    Message,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Tls},
        extension::ClientId,
    },
};
use tokio::{sync::Semaphore, time::timeout};

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
    /// It took too long.
    TooLate,
    /// Anything else.
    Smtp(Error),
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
        let sent = timeout(self.patience, self.send_at_leisure(message)).await;
        sent.map_err(|_| Trouble::TooLate)?.map_err(Trouble::Smtp)
    }

    async fn send_at_leisure(&self, message: &Message) -> Result<(), Error> {
        let _one_of_them = self.connections.acquire().await;
        let mut connection = match self.waiting_connection().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.send(message.envelope(), &message.formatted()).await?;
        self.waiting().push((Instant::now(), connection));
        Ok(())
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

impl Trouble {
    /// Whether the relay wants no more of this mail: it knows no such mailbox, or does not write
    /// to it (RFC 5321 section 4.2.2, 550 to 559). Other refusals are about us, and may end.
    pub fn is_for_good(&self) -> bool {
        let Self::Smtp(error) = self else { return false };
        error.status().is_some_and(|code| (550..=559).contains(&u16::from(code)))
    }

    /// The status that the relay answered with, if it did.
    pub fn status(&self) -> Option<String> {
        match self {
            Self::TooLate => None,
            Self::Smtp(error) => error.status().map(|code| code.to_string()),
        }
    }

    /// What happened, without the relay's own words, which may quote an address.
    pub fn reason(&self) -> String {
        let Self::Smtp(error) = self else { return "the relay took too long".to_owned() };
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
