//! Mail: a message is made from its parts and handed to a relay, or written into a directory.
//!
//! Headers are built by lettre and never spliced together. Nothing here decides whether somebody
//! may be written to, and nothing of a message reaches the log.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use lettre::{
    Message,
    message::{Mailbox, MultiPart, SinglePart, header},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};

use super::{
    fetch::read_certificates,
    mail_text::{About, Invitation, Owned, Rendered, Texts, Validation, Variables, Visit},
    password::read_password,
    relay::Relay,
    spool::Spool,
};
use crate::{
    config::{Config, MailTransport, SmtpSecurity, is_brand},
    domain::{
        ids::UserId,
        invitation::Described,
        language::Language,
        mail_names::account_for_mail,
        outbox::{Change, Notice},
        retention::VISIT_LINK,
        secret::url_text,
        server_name::Host,
        threepid::Address,
    },
};

/// A mail that asks whether an address is the reader's.
pub struct ValidationMail {
    /// To whom.
    pub to: Address,
    /// The account that asked.
    pub account: UserId,
    /// The link to the confirm page.
    pub link: String,
    /// The token, for clients that let people type it.
    pub token: String,
    /// The brand that the client asked for, if any.
    pub brand: Option<String>,
    /// The language it is written in.
    pub language: Language,
}

/// A mail that says: you are invited.
pub struct InvitationMail {
    /// To whom.
    pub to: Address,
    /// The Matrix ID that invites.
    pub sender: String,
    /// What the inviter's homeserver said of room and inviter.
    pub described: Described,
    /// The link to join with.
    pub link: String,
    /// After how many days the invitation is deleted.
    pub expire_days: u32,
    /// The language it is written in.
    pub language: Language,
}

/// A mail with the link to the reader's own page.
pub struct VisitMail {
    /// To whom.
    pub to: Address,
    /// The link.
    pub link: String,
    /// The language it is written in.
    pub language: Language,
}

/// The mail was not accepted for delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// It may be if it is tried again.
    #[error("the mail was not accepted")]
    Now,
    /// It may be later, and so may others: there is no talking to the relay.
    #[error("the relay cannot be reached")]
    Unreachable,
    /// It never will be: there is no such mailbox, or nothing can be sent to it.
    #[error("the mail will not be accepted")]
    Ever,
}

/// The way out for mails.
pub struct Mailer {
    transport: Transport,
    from: Mailbox,
    texts: Texts,
    server_name: String,
    base_url: String,
}

enum Transport {
    Smtp(Box<Relay>),
    Directory(Spool),
}

impl Mailer {
    /// Sets up the transport and reads the templates, which must all render.
    ///
    /// # Errors
    /// If a file cannot be read, a template is wrong, or the sender is no mailbox.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let from = &config.mail.from;
        let from: Mailbox = from.parse().with_context(|| format!("mail.from: '{from}' is not a sender"))?;
        let transport = match config.mail.transport {
            MailTransport::Smtp => Transport::Smtp(Box::new(smtp(config)?)),
            MailTransport::Directory => Transport::Directory(Spool::new(config.mail_directory(), "eml")),
        };
        let texts = Texts::load(config.mail.templates_dir.as_deref(), &config.mail.default_brand)?;
        let (server_name, base_url) = (config.server_name.clone(), config.public_base_url.clone());
        Ok(Self { transport, from, texts, server_name, base_url })
    }

    /// Hands a mail to the transport that asks whether an address is the reader's.
    ///
    /// # Errors
    /// If it was not accepted; why is in the log, without the address.
    pub async fn ask(&self, mail: &ValidationMail) -> Result<(), NotSent> {
        let account = account_for_mail(&mail.account);
        let about = About::Validation(Validation { token: &mail.token, account: &account });
        let brand = mail.brand.as_deref().filter(|brand| is_brand(brand));
        self.send(&mail.to, &mail.link, mail.language, brand, about).await
    }

    /// Hands a mail to the transport that says that its reader is invited.
    ///
    /// # Errors
    /// As [`Mailer::ask`].
    pub async fn invite(&self, mail: &InvitationMail) -> Result<(), NotSent> {
        let about = About::Invitation(Invitation {
            sender: &mail.sender,
            inviter_name: mail.described.inviter_name.as_deref(),
            room_name: mail.described.room_name.as_deref(),
            is_space: mail.described.is_space,
            expire_days: mail.expire_days,
        });
        self.send(&mail.to, &mail.link, mail.language, None, about).await
    }

    /// Hands a mail to the transport that tells the owner of an address what happened to it.
    ///
    /// # Errors
    /// As [`Mailer::ask`].
    pub async fn tell(&self, notice: &Notice) -> Result<(), NotSent> {
        let account = account_for_mail(&notice.user_id);
        let owned = Owned { account: &account };
        let about = match notice.change {
            Change::Bound => About::Bound(owned),
            Change::Unbound => About::Unbound(owned),
        };
        self.send(&notice.address, &self.me(notice.language), notice.language, None, about).await
    }

    /// Hands a mail to the transport that leads its reader to their own page.
    ///
    /// # Errors
    /// As [`Mailer::ask`].
    pub async fn welcome(&self, mail: &VisitMail) -> Result<(), NotSent> {
        let about = About::Visit(Visit { minutes: VISIT_LINK.as_secs() / 60 });
        self.send(&mail.to, &mail.link, mail.language, None, about).await
    }

    /// The page on which everybody can ask for what is stored about them. It holds no secret.
    fn me(&self, language: Language) -> String {
        format!("{}/me?lang={}", self.base_url, language.as_str())
    }

    async fn send(
        &self,
        to: &Address,
        link: &str,
        language: Language,
        brand: Option<&str>,
        about: About<'_>,
    ) -> Result<(), NotSent> {
        let (from, me) = (self.from.to_string(), self.me(language));
        let (server_name, address) = (self.server_name.as_str(), to.as_str());
        let variables = Variables { to: address, from: &from, link, me: &me, server_name, about };
        let rendered = self.texts.render(brand, language, &variables);
        let message = rendered.and_then(|rendered| self.compose(to, rendered, me)).map_err(|error| {
            tracing::warn!(%error, "a mail could not be composed");
            NotSent::Ever
        })?;
        self.hand_over(&message).await
    }

    async fn hand_over(&self, message: &Message) -> Result<(), NotSent> {
        match &self.transport {
            Transport::Smtp(relay) => relay.send(message).await.map_err(|trouble| {
                tracing::warn!(reason = trouble.reason(), status = trouble.status(), "a mail was not sent");
                match () {
                    () if trouble.is_for_good() => NotSent::Ever,
                    () if trouble.is_about_the_relay() => NotSent::Unreachable,
                    () => NotSent::Now,
                }
            }),
            Transport::Directory(spool) => spool.write(message.formatted()).await.map_err(|error| {
                tracing::warn!(%error, "a mail could not be written");
                NotSent::Now
            }),
        }
    }

    /// An identifier that says where the mail is from and not on which machine it was made.
    fn message_id(&self) -> anyhow::Result<String> {
        let mut unique = [0; 16];
        getrandom::fill(&mut unique).context("the operating system has no random numbers")?;
        Ok(format!("<{}@{}>", url_text(&unique), self.from.email.domain()))
    }

    fn compose(&self, to: &Address, rendered: Rendered, me: String) -> anyhow::Result<Message> {
        let smtp_address = to.smtp().context("the address has no form for mail")?;
        let to = Mailbox::new(None, smtp_address.parse()?);
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(rendered.subject)
            .date(SystemTime::now())
            .message_id(Some(self.message_id()?))
            .header(AutoSubmitted)
            .header(ListUnsubscribe(me));
        let text = SinglePart::plain(rendered.text);
        Ok(match rendered.html {
            Some(html) => message
                .multipart(MultiPart::alternative().singlepart(text).singlepart(SinglePart::html(html)))?,
            None => message.singlepart(text)?,
        })
    }
}

/// `Auto-Submitted: auto-generated` (RFC 3834): no vacation message answers this.
#[derive(Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// `List-Unsubscribe` (RFC 2369): where to say that nothing more is to be sent. Mail programs show
/// it as a button.
#[derive(Clone)]
struct ListUnsubscribe(String);

impl header::Header for ListUnsubscribe {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.trim_matches(['<', '>']).to_owned()))
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), format!("<{}>", self.0))
    }
}

fn smtp(config: &Config) -> anyhow::Result<Relay> {
    let settings = &config.mail.smtp;
    let mut tls = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.extra_ca_file {
        for certificate in read_certificates(path).context("mail.smtp.extra_ca_file")? {
            tls = tls.add_root_certificate(Certificate::from_der(certificate.to_vec())?);
        }
    }
    let tls = || tls.build_rustls().context("mail.smtp.extra_ca_file: this cannot be an authority");
    let security = match settings.security {
        SmtpSecurity::Tls => Tls::Wrapper(tls()?),
        SmtpSecurity::Starttls => Tls::Required(tls()?),
        SmtpSecurity::None => Tls::None,
    };
    let password = read_password(settings.password.as_ref(), settings.password_file.as_deref())
        .context("mail.smtp.password_file")?;
    let credentials = settings.username.clone().zip(password).map(Credentials::from);
    let patience = Duration::from_secs(settings.timeout_seconds.get().into());
    let address = (settings.host.clone(), settings.port);
    // Relays want the name of a host; ours is public anyway, that of the machine may not be.
    let hello = match config.name().host() {
        Host::Dns(name) => ClientId::Domain(name.clone()),
        Host::Ip(IpAddr::V4(address)) => ClientId::Ipv4(*address),
        Host::Ip(IpAddr::V6(address)) => ClientId::Ipv6(*address),
    };
    Ok(Relay::new(address, hello, security, credentials, patience, settings.max_connections.get() as usize))
}
