//! Mail: a message is made from its parts and handed to a relay, or written into a directory.
//!
//! Headers are built by lettre and never spliced together. Nothing here decides whether somebody
//! may be written to, and nothing of a message reaches the log.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
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
    mail_text::{Texts, Variables},
    relay::Relay,
};
use crate::{
    config::{Config, MailTransport, SmtpSecurity, is_brand},
    domain::{language::Language, secret::url_text, server_name::Host, threepid::Address},
};

/// A mail that asks whether an address is the reader's.
pub struct ValidationMail {
    /// To whom.
    pub to: Address,
    /// The Matrix ID that asked.
    pub account: String,
    /// The link to the confirm page.
    pub link: String,
    /// The token, for clients that let people type it.
    pub token: String,
    /// The brand that the client asked for, if any.
    pub brand: Option<String>,
    /// The language it is written in.
    pub language: Language,
}

/// The mail was not accepted for delivery.
#[derive(Debug, thiserror::Error)]
#[error("the mail was not accepted")]
pub struct NotSent;

/// The way out for mails.
pub struct Mailer {
    transport: Transport,
    from: Mailbox,
    texts: Texts,
    server_name: String,
}

enum Transport {
    Smtp(Box<Relay>),
    Directory { path: PathBuf, written: AtomicU64 },
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
            MailTransport::Directory => {
                Transport::Directory { path: config.mail_directory(), written: AtomicU64::new(0) }
            }
        };
        let texts = Texts::load(config.mail.templates_dir.as_deref(), &config.mail.default_brand)?;
        Ok(Self { transport, from, texts, server_name: config.server_name.clone() })
    }

    /// Hands a mail to the transport.
    ///
    /// # Errors
    /// If it was not accepted; why is in the log, without the address.
    pub async fn send(&self, mail: &ValidationMail) -> Result<(), NotSent> {
        let message = self.compose(mail).map_err(|error| {
            tracing::warn!(%error, "a mail could not be composed");
            NotSent
        })?;
        match &self.transport {
            Transport::Smtp(relay) => relay.send(&message).await.map_err(|trouble| {
                tracing::warn!(reason = trouble.reason(), status = trouble.status(), "a mail was not sent");
                NotSent
            }),
            Transport::Directory { path, written } => {
                let number = written.fetch_add(1, Ordering::Relaxed);
                let (path, bytes) = (path.clone(), message.formatted());
                let write = tokio::task::spawn_blocking(move || write_file(&path, number, &bytes));
                write.await.map_err(|_| NotSent)?.map_err(|error| {
                    tracing::warn!(%error, "a mail could not be written");
                    NotSent
                })
            }
        }
    }

    /// An identifier that says where the mail is from and not on which machine it was made.
    fn message_id(&self) -> anyhow::Result<String> {
        let mut unique = [0; 16];
        getrandom::fill(&mut unique).context("the operating system has no random numbers")?;
        Ok(format!("<{}@{}>", url_text(&unique), self.from.email.domain()))
    }

    fn compose(&self, mail: &ValidationMail) -> anyhow::Result<Message> {
        let smtp_address = mail.to.smtp().context("the address has no form for mail")?;
        let to = Mailbox::new(None, smtp_address.parse()?);
        let variables = Variables {
            to: mail.to.as_str(),
            from: &self.from.to_string(),
            link: &mail.link,
            token: &mail.token,
            account: &mail.account,
            server_name: &self.server_name,
        };
        let brand = mail.brand.as_deref().filter(|brand| is_brand(brand));
        let rendered = self.texts.render(brand, mail.language, &variables)?;
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(rendered.subject)
            .date(SystemTime::now())
            .message_id(Some(self.message_id()?))
            .header(AutoSubmitted);
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
    let password = match (&settings.password, &settings.password_file) {
        (Some(password), _) => Some(password.0.clone()),
        (None, Some(path)) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("mail.smtp.password_file: cannot read {}", path.display()))?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        (None, None) => None,
    };
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

fn write_file(directory: &Path, number: u64, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Names sort by time, and no reader sees half a mail.
    let name = format!("{:015}-{number:06}.eml", since_epoch.as_millis());
    let partial = directory.join(format!(".{name}.partial"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    fs::rename(partial, directory.join(name))
}
