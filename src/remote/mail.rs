//! Mail: a message is made from its parts and handed to a relay, or written into a directory.
//!
//! Headers are built by lettre and never spliced together. Nothing here decides whether somebody
//! may be written to, and nothing of a message reaches the log.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, MultiPart, SinglePart, header},
    transport::smtp::{
        PoolConfig,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};

use super::mail_text::{Texts, Variables};
use crate::{
    config::{self, Config, MailTransport, SmtpSecurity, is_brand},
    domain::{language::Language, threepid::Address},
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
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
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
            MailTransport::Smtp => Transport::Smtp(Box::new(smtp(&config.mail.smtp)?)),
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
            Transport::Smtp(relay) => {
                if let Err(error) = relay.send(message).await {
                    // The relay's own words may quote the address.
                    let status = error.status().map(|code| code.to_string());
                    let kind = match () {
                        () if error.is_permanent() => "refused by the relay",
                        () if error.is_transient() => "refused by the relay for now",
                        () if error.is_timeout() => "the relay took too long",
                        () if error.is_tls() => "TLS to the relay failed",
                        () => "the relay could not be reached",
                    };
                    tracing::warn!(kind, status, "a mail was not sent");
                    return Err(NotSent);
                }
                Ok(())
            }
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
            .message_id(None)
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

fn smtp(settings: &config::Smtp) -> anyhow::Result<AsyncSmtpTransport<Tokio1Executor>> {
    let mut tls = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.extra_ca_file {
        let name = || format!("mail.smtp.extra_ca_file: cannot read certificates from {}", path.display());
        let pem = fs::read(path).with_context(name)?;
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).with_context(name)?);
    }
    let security = match settings.security {
        SmtpSecurity::Tls => Tls::Wrapper(tls.build_rustls()?),
        SmtpSecurity::Starttls => Tls::Required(tls.build_rustls()?),
        SmtpSecurity::None => Tls::None,
    };
    let mut relay = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
        .port(settings.port)
        .tls(security)
        .timeout(Some(Duration::from_secs(settings.timeout_seconds)))
        .pool_config(PoolConfig::new().max_size(settings.max_connections));
    let password = match (&settings.password, &settings.password_file) {
        (Some(password), _) => Some(password.0.clone()),
        (None, Some(path)) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("mail.smtp.password_file: cannot read {}", path.display()))?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        (None, None) => None,
    };
    if let (Some(user), Some(password)) = (&settings.username, password) {
        relay = relay.credentials(Credentials::new(user.clone(), password));
    }
    Ok(relay.build())
}

fn write_file(directory: &Path, number: u64, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Names sort by time, and no reader sees half a mail.
    let name = format!("{}-{number}.eml", since_epoch.as_millis());
    let partial = directory.join(format!(".{name}"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    fs::rename(partial, directory.join(name))
}
