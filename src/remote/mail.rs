//! Sends mails: to a relay, or as files into a directory.
//!
//! lettre builds the headers from parts; text is never spliced into them. `ops` decides who may get a mail. No
//! part of a mail reaches the log.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use arc_swap::ArcSwap;
use lettre::{
    Message,
    address::Envelope,
    message::{Mailbox, MultiPart, SinglePart},
    transport::smtp::{authentication::Credentials, extension::ClientId},
};
use tokio_rustls::TlsConnector;

pub use super::relay::{ConnectedAt, ConnectionPermit};
use super::{
    dns::Dns,
    letterhead::Letterhead,
    mail_headers::{AutoSubmitted, ListUnsubscribe, ListUnsubscribePost},
    mail_text::{About, Account, Invitation, Rendered, Validation, Variables, Visit},
    password::read_password,
    relay::{Asker, Connector, Relay, RelayError, Security, Stage, Terms},
    spool::Spool,
    trust::{Pinned, trust},
};
use crate::{
    config::{Config, MailTransport, SmtpSecurity, is_brand},
    domain::{
        ids::UserId,
        invitation::Described,
        language::Language,
        outbox::{BindingChange, Kind, OwnerMail},
        retention::{SESSION, VISIT_LINK},
        secret::url_text,
        server_name::Host,
        shown::ShownId,
        threepid::Address,
    },
    metrics::{MailKind, MailOutcome, Metrics},
};

/// The mail that asks its reader to confirm an address.
pub struct ValidationMail {
    /// The recipient.
    pub to: Address,
    /// The stop link of the recipient.
    pub stop: String,
    /// The account that asked.
    pub account: UserId,
    /// The link to the confirm page.
    pub link: String,
    /// The token, for clients in which people type it.
    pub token: String,
    /// The brand that the client asked for, if any.
    pub brand: Option<String>,
    /// The language of the mail.
    pub language: Language,
}

/// The mail of an invitation.
pub struct InvitationMail {
    /// The recipient.
    pub to: Address,
    /// The stop link of the recipient.
    pub stop: String,
    /// The Matrix ID that invites.
    pub sender: UserId,
    /// What the inviter's homeserver says about room and inviter.
    pub described: Described,
    /// The link to join with.
    pub link: String,
    /// After how many days the invitation is deleted.
    pub expire_days: u32,
    /// The language of the mail.
    pub language: Language,
}

/// The mail with the link to the reader's own page.
pub struct VisitMail {
    /// The recipient.
    pub to: Address,
    /// The stop link of the recipient.
    pub stop: String,
    /// The link.
    pub link: String,
    /// The language of the mail.
    pub language: Language,
}

/// Why a mail was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// A retry of this mail may succeed.
    #[error("the relay did not accept the mail")]
    Temporary,
    /// The relay gave no answer after it had heard this recipient, or no connection was free for the mail. Mails to
    /// others may be accepted.
    #[error("the relay gave no answer about the mail")]
    Unanswered,
    /// The relay cannot be reached, so other mails would fail now as well.
    #[error("the relay cannot be reached")]
    RelayUnreachable,
    /// Every retry would fail: there is no such mailbox, or the relay cannot send to it.
    #[error("the relay will never accept the mail")]
    Permanent,
}

impl From<&RelayError> for MailError {
    fn from(error: &RelayError) -> Self {
        match error {
            error if error.is_permanent() => Self::Permanent,
            RelayError::NoConnection(_) => Self::RelayUnreachable,
            // Strangers choose recipients, and one domain may use up its share of the connections.
            RelayError::NoFreeConnection => Self::Unanswered,
            error if error.is_answered() => Self::Temporary,
            RelayError::Timeout(Stage::Sender)
            | RelayError::Smtp(Stage::Sender, _)
            | RelayError::OutOfStep(Stage::Sender) => Self::RelayUnreachable,
            _ => Self::Unanswered,
        }
    }
}

/// Composes and sends mails.
pub struct Mailer {
    transport: Transport,
    letterhead: ArcSwap<Letterhead>,
    server_name: String,
    base_url: String,
    metrics: Option<Arc<Metrics>>,
}

enum Transport {
    Smtp(Box<Relay>),
    Directory(Spool),
}

impl Mailer {
    /// Sets up the transport, and reads and renders every template.
    ///
    /// # Errors
    /// If a file cannot be read, a template does not render, or the sender is not a mailbox.
    pub fn new(config: &Config, dns: Arc<Dns>) -> anyhow::Result<Self> {
        let letterhead = ArcSwap::from_pointee(Letterhead::load(config)?);
        let transport = match config.mail.transport {
            MailTransport::Smtp => Transport::Smtp(Box::new(smtp(config, dns)?)),
            MailTransport::Directory => Transport::Directory(Spool::new(config.mail_directory(), "eml")),
        };
        let (server_name, base_url) = (config.server_name.clone(), config.public_base_url.clone());
        Ok(Self { transport, letterhead, server_name, base_url, metrics: None })
    }

    /// Writes with this letterhead from now on.
    pub fn set_letterhead(&self, letterhead: Letterhead) {
        self.letterhead.store(Arc::new(letterhead));
    }

    /// Counts the mails there.
    #[must_use]
    pub fn counted_in(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    fn count(&self, kind: MailKind, sent: Result<(), MailError>) {
        let outcome = match sent {
            Ok(()) => MailOutcome::Accepted,
            Err(MailError::Temporary) => MailOutcome::Deferred,
            Err(MailError::Permanent) => MailOutcome::Rejected,
            Err(MailError::Unanswered) => MailOutcome::Unanswered,
            Err(MailError::RelayUnreachable) => MailOutcome::Unreachable,
        };
        if let Some(metrics) = &self.metrics {
            metrics.count_mail(kind, outcome);
        }
    }

    /// See [`Relay::acquire_for_outbox`].
    pub async fn acquire_for_outbox(&self, kind: Kind, domain: &str, is_quick: bool) -> ConnectionPermit<'_> {
        match &self.transport {
            Transport::Smtp(relay) => relay.acquire_for_outbox(kind, domain, is_quick).await,
            Transport::Directory(_) => ConnectionPermit::default(),
        }
    }

    /// See [`Relay::max_for_domain`].
    pub fn max_for_domain(&self) -> usize {
        match &self.transport {
            Transport::Smtp(relay) => relay.max_for_domain(),
            Transport::Directory(_) => 1,
        }
    }

    /// Sends the mail that validates an address. Once the relay has accepted the recipient, a failure is logged and not
    /// returned: the caller chooses what is in the message, and one to an address that opted out cannot fail there
    /// (design, section 4, rule 12).
    ///
    /// # Errors
    /// If the recipient was not accepted. The reason is in the log, without the address.
    pub async fn send_validation(&self, mail: &ValidationMail) -> Result<(), MailError> {
        let (message, terms) = (self.validation(mail)?, Terms::AskedBy(Asker::Account(&mail.account)));
        match &self.transport {
            Transport::Smtp(relay) => self.until_recipient(relay.send(&message, terms).await),
            Transport::Directory(_) => self.transmit(MailKind::Validation, &message, terms).await,
        }
    }

    /// Does what [`Mailer::send_validation`] does, but cancels the mail after the relay has accepted its recipient.
    ///
    /// # Errors
    /// As [`Mailer::send_validation`].
    pub async fn rehearse_validation(&self, mail: &ValidationMail) -> Result<(), MailError> {
        let message = self.validation(mail)?;
        match &self.transport {
            Transport::Smtp(relay) => {
                self.until_recipient(relay.rehearse(&message, Asker::Account(&mail.account)).await)
            }
            Transport::Directory(_) => {
                self.count(MailKind::Validation, Ok(()));
                Ok(())
            }
        }
    }

    fn validation(&self, mail: &ValidationMail) -> Result<Message, MailError> {
        let account = Account::of(&mail.account);
        let session_hours = SESSION.as_secs() / 3600;
        let about = About::Validation(Validation { token: &mail.token, session_hours, account });
        let brand = mail.brand.as_deref().filter(|brand| is_brand(brand));
        self.message((&mail.to, &mail.stop), &mail.link, mail.language, brand, about)
    }

    /// Sends the mail of an invitation.
    ///
    /// # Errors
    /// As [`Mailer::send_validation`].
    pub async fn send_invitation(
        &self,
        mail: &InvitationMail,
        permit: ConnectionPermit<'_>,
    ) -> Result<(), MailError> {
        let shown = ShownId::of_user(&mail.sender);
        let about = About::Invitation(Invitation {
            sender: shown.whole_user(),
            shown,
            inviter_name: mail.described.inviter_name.as_deref(),
            room_name: mail.described.room_name.as_deref(),
            is_space: mail.described.is_space,
            expire_days: mail.expire_days,
        });
        let message = self.message((&mail.to, &mail.stop), &mail.link, mail.language, None, about)?;
        self.transmit(MailKind::Invitation, &message, Terms::Queued(permit)).await
    }

    /// Takes the turn of a queued mail, and sends nothing.
    pub async fn pass_turn(&self, permit: ConnectionPermit<'_>) {
        match &self.transport {
            Transport::Smtp(relay) => relay.pass_turn(permit).await,
            Transport::Directory(_) => drop(permit),
        }
    }

    /// Sends the mail that tells the owner of an address that it was bound or unbound.
    ///
    /// # Errors
    /// As [`Mailer::send_validation`].
    pub async fn send_owner_notice(
        &self,
        notice: &OwnerMail,
        stop: &str,
        permit: ConnectionPermit<'_>,
    ) -> Result<(), MailError> {
        let account = Account::of(&notice.user_id);
        let about = match notice.change {
            BindingChange::Bound => About::Bound(account),
            BindingChange::Unbound => About::Unbound(account),
        };
        let message = self.message((&notice.address, stop), &self.me(), notice.language, None, about)?;
        self.transmit(MailKind::OwnerNotice, &message, Terms::Queued(permit)).await
    }

    /// Sends the mail with the link to its reader's own page.
    ///
    /// # Errors
    /// As [`Mailer::send_validation`].
    pub async fn send_page_link(&self, mail: &VisitMail) -> Result<(), MailError> {
        let message = self.page_link(mail)?;
        self.transmit(MailKind::PageLink, &message, Terms::AskedBy(Asker::Visitor)).await
    }

    /// Composes the mail of [`Mailer::send_page_link`], waits for its connection and takes its turn, and sends nothing. Who
    /// asks for a link to their own address afterwards must wait as long (design, section 4, rule 12).
    ///
    /// # Errors
    /// If no connection was free.
    pub async fn pass_turn_of_page_link(&self, mail: &VisitMail) -> Result<(), MailError> {
        let message = self.page_link(mail)?;
        match &self.transport {
            Transport::Smtp(relay) => {
                let passed = relay.pass_asked_turn(&message, Asker::Visitor).await;
                passed.map_err(|error| not_sent(&error))
            }
            Transport::Directory(_) => Ok(()),
        }
    }

    fn page_link(&self, mail: &VisitMail) -> Result<Message, MailError> {
        let about = About::Visit(Visit { minutes: VISIT_LINK.as_secs() / 60 });
        self.message((&mail.to, &mail.stop), &mail.link, mail.language, None, about)
    }

    /// The page on which anybody can ask for the link to their own page. It holds no secret.
    fn me(&self) -> String {
        format!("{}/me", self.base_url)
    }

    fn message(
        &self,
        (to, stop): (&Address, &str),
        link: &str,
        language: Language,
        brand: Option<&str>,
        about: About<'_>,
    ) -> Result<Message, MailError> {
        let letterhead = self.letterhead.load();
        let (from, me) = (letterhead.from.to_string(), self.me());
        let variables = Variables {
            to: to.as_str(),
            from: &from,
            link,
            me: &me,
            stop,
            privacy: &format!("{}/privacy/{}", self.base_url, language.as_str()),
            server_name: &self.server_name,
            operator: letterhead.operator.as_deref(),
            contact: letterhead.contact.as_deref(),
            about,
        };
        let rendered = letterhead.texts.render(brand, language, &variables);
        rendered.and_then(|rendered| compose(&letterhead, to, rendered, stop)).map_err(|error| {
            tracing::warn!(%error, "a mail could not be composed");
            MailError::Permanent
        })
    }

    async fn transmit(&self, kind: MailKind, message: &Message, terms: Terms<'_>) -> Result<(), MailError> {
        let sent = match &self.transport {
            Transport::Smtp(relay) => relay.send(message, terms).await.map_err(|error| not_sent(&error)),
            Transport::Directory(spool) => spool.write(message.formatted()).await.map_err(|error| {
                tracing::warn!(%error, "a mail could not be written into mail.directory");
                MailError::Temporary
            }),
        };
        self.count(kind, sent);
        sent
    }

    /// The result of a validation mail as far as its caller hears it. The metrics have the whole result.
    fn until_recipient(&self, sent: Result<(), RelayError>) -> Result<(), MailError> {
        let counted = sent.as_ref().copied().map_err(MailError::from);
        self.count(MailKind::Validation, counted);
        match sent {
            Err(error) if error.is_after_recipient() => {
                not_sent(&error);
                Ok(())
            }
            sent => sent.map_err(|error| not_sent(&error)),
        }
    }
}

/// A `Message-ID` with the sender's domain, because the name of the machine may not be public.
fn message_id(from: &Mailbox) -> anyhow::Result<String> {
    let mut unique = [0; 16];
    getrandom::fill(&mut unique).context("the operating system has no random numbers")?;
    Ok(format!("<{}@{}>", url_text(&unique), from.email.domain()))
}

fn compose(letterhead: &Letterhead, to: &Address, rendered: Rendered, stop: &str) -> anyhow::Result<Message> {
    let Letterhead { from, reply_to, .. } = letterhead;
    let (local, domain) = to.smtp().context("the address has no form for mail")?;
    // The mail library would refuse marks and symbols that RFC 6531 allows. Our own grammar is checked already.
    let to = lettre::Address::new_dangerous(local, domain);
    let envelope = Envelope::new(Some(from.email.clone()), vec![to.clone()])?;
    #[expect(clippy::disallowed_methods, reason = "mail programs sort by real time")]
    let date = SystemTime::now();
    let mut message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .envelope(envelope)
        .subject(rendered.subject)
        .date(date)
        .message_id(Some(message_id(from)?))
        .header(AutoSubmitted);
    if let Some(reply_to) = reply_to {
        message = message.reply_to(reply_to.clone());
    }
    // RFC 8058 wants https.
    if stop.starts_with("https://") {
        message = message.header(ListUnsubscribe(stop.to_owned())).header(ListUnsubscribePost);
    }
    let text = SinglePart::plain(rendered.text);
    Ok(match rendered.html {
        Some(html) => {
            message.multipart(MultiPart::alternative().singlepart(text).singlepart(SinglePart::html(html)))?
        }
        None => message.singlepart(text)?,
    })
}

fn not_sent(error: &RelayError) -> MailError {
    tracing::warn!(reason = error.reason(), status = error.status(), "a mail was not sent");
    MailError::from(error)
}

fn smtp(config: &Config, dns: Arc<Dns>) -> anyhow::Result<Relay> {
    let settings = &config.mail.smtp;
    let tls = || {
        let tls = trust(settings.extra_ca_file.as_deref(), Pinned::ForTheServer);
        tls.map(|tls| TlsConnector::from(Arc::new(tls))).context("mail.smtp.extra_ca_file")
    };
    let security = match settings.security {
        SmtpSecurity::Tls => Security::Tls(tls()?),
        SmtpSecurity::Starttls => Security::Starttls(tls()?),
        SmtpSecurity::None => Security::None,
    };
    let password = read_password(settings.password.as_ref(), settings.password_file.as_deref())
        .context("mail.smtp.password_file")?;
    let credentials = settings.username.clone().zip(password).map(Credentials::from);
    // Relays want the name of a host. The server name is public; the name of the machine may not be.
    let hello = match config.name().host() {
        Host::Dns(name) => ClientId::Domain(name.clone()),
        Host::Ip(IpAddr::V4(address)) => ClientId::Ipv4(*address),
        Host::Ip(IpAddr::V6(address)) => ClientId::Ipv6(*address),
    };
    let connector =
        Connector { dns, host: settings.host.clone(), port: settings.port, hello, security, credentials };
    let timeout = Duration::from_secs(settings.timeout_seconds.get().into());
    Ok(Relay::new(connector, timeout, settings.max_connections.get() as usize))
}
