//! Sends messages to phones: to a gateway, or as files into a directory.
//!
//! `ops` decides who may ask for a message. No part of a message reaches the log.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::{
    dns::Dns,
    sms_http::{Fields, HttpGateway},
    sms_rehearsal::Rehearsal,
    spool::Spool,
};
use crate::{
    assets::template,
    config::{Config, SmsTransport},
    domain::{
        ids::{Token, UserId},
        language::Language,
        network::Network,
        phone::PhoneNumber,
    },
    metrics::{Metrics, SmsOutcome},
};

/// The message with a code.
pub struct ValidationSms<'a> {
    /// The recipient.
    pub to: &'a PhoneNumber,
    /// The code.
    pub code: &'a Token,
    /// The language of the message.
    pub language: Language,
    /// The account that asked; `None` for a homeserver that asks for a person without one.
    pub account: Option<&'a UserId>,
    /// The network that asked.
    pub network: Network,
}

/// The message with the link to the reader's own page.
pub struct VisitSms<'a> {
    /// The recipient.
    pub to: &'a PhoneNumber,
    /// The link.
    pub link: &'a str,
    /// The language of the message.
    pub language: Language,
}

/// What a message is for; each has a template.
#[derive(Clone, Copy)]
enum Kind {
    Code,
    Visit,
}

/// Why a message was not sent. The log has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmsError {
    /// The gateway refused this message, so the reason may be its number. Others may pass.
    #[error("the gateway did not accept the message")]
    Refused,
    /// The gateway cannot be reached or accepts nothing, so other messages would fail now as well.
    #[error("the gateway cannot be reached or accepts nothing")]
    GatewayUnavailable,
}

/// Composes and sends messages.
pub struct SmsGateway {
    transport: Transport,
    texts: ArcSwap<SmsTexts>,
    countries: Vec<String>,
    rehearsal: Rehearsal,
    metrics: Option<Arc<Metrics>>,
}

enum Transport {
    Off,
    Directory(Spool),
    Http(Box<HttpGateway>),
}

impl SmsGateway {
    /// Sets up the transport, and reads and renders every template.
    ///
    /// # Errors
    /// If a file cannot be read, or a template or a part of the request is wrong.
    pub fn new(config: &Config, dns: Arc<Dns>) -> anyhow::Result<Self> {
        let transport = match config.sms.gateway {
            SmsTransport::Off => Transport::Off,
            SmsTransport::Directory => Transport::Directory(Spool::new(config.sms_directory(), "txt")),
            SmsTransport::Http => Transport::Http(Box::new(HttpGateway::new(&config.sms, dns)?)),
        };
        let texts = ArcSwap::from_pointee(SmsTexts::load(config)?);
        Ok(Self {
            transport,
            texts,
            countries: config.sms.countries.clone(),
            rehearsal: Rehearsal::default(),
            metrics: None,
        })
    }

    /// Writes with these texts from now on.
    pub fn set_texts(&self, texts: SmsTexts) {
        self.texts.store(Arc::new(texts));
    }

    /// Counts the messages there.
    #[must_use]
    pub fn counted_in(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    fn count(&self, sent: Result<(), SmsError>) {
        let outcome = match sent {
            Ok(()) => SmsOutcome::Accepted,
            Err(SmsError::Refused) => SmsOutcome::Rejected,
            Err(SmsError::GatewayUnavailable) => SmsOutcome::Unavailable,
        };
        if let Some(metrics) = &self.metrics {
            metrics.count_sms(outcome);
        }
    }

    /// Whether the operator allows messages to the country of this number.
    pub fn may_write_to(&self, number: &PhoneNumber) -> bool {
        let is_named = |named: &String| named == "*" || Some(named.as_str()) == number.region();
        !matches!(self.transport, Transport::Off) && self.countries.iter().any(is_named)
    }

    /// Sends the message that validates a number.
    ///
    /// # Errors
    /// If the gateway did not accept it. The reason is in the log, without number and code.
    pub async fn send_code(&self, sms: &ValidationSms<'_>) -> Result<(), SmsError> {
        let (code, path) = (sms.code.as_str(), path(Kind::Code, sms.language));
        self.rehearsal.observe(sms, self.send(sms.to, path, context! { code }, code)).await
    }

    /// Sends nothing, but takes as long as [`SmsGateway::send_code`] and fails while the gateway is unavailable.
    ///
    /// # Errors
    /// If the gateway is unavailable.
    pub async fn rehearse_code(&self) -> Result<(), SmsError> {
        let reaching = async {
            let Transport::Http(gateway) = &self.transport else { return Ok(()) };
            gateway.reach().await.map_err(|reason| {
                tracing::warn!(%reason, "a message was not sent");
                SmsError::GatewayUnavailable
            })
        };
        let rehearsed = self.rehearsal.rehearse(reaching).await;
        self.count(rehearsed);
        rehearsed
    }

    /// Sends the message with the link to its reader's own page.
    ///
    /// # Errors
    /// As [`SmsGateway::send_code`], and if the gateway has texts of its own and accepts only codes.
    pub async fn send_page_link(&self, sms: &VisitSms<'_>) -> Result<(), SmsError> {
        self.require_texts()?;
        let path = path(Kind::Visit, sms.language);
        let sent = self.send(sms.to, path, context! { link => sms.link }, "").await;
        sent.inspect(|()| self.rehearsal.end_trouble())
    }

    /// Sends nothing, but takes as long as [`SmsGateway::send_page_link`] (design, section 4, rule 12).
    ///
    /// # Errors
    /// If the gateway is unavailable, or accepts only codes.
    pub async fn rehearse_page_link(&self) -> Result<(), SmsError> {
        self.require_texts()?;
        self.rehearse_code().await
    }

    fn require_texts(&self) -> Result<(), SmsError> {
        if let Transport::Http(gateway) = &self.transport
            && !gateway.accepts_texts()
        {
            tracing::warn!("a link cannot be sent to a phone, because sms.http.body does not use {{text}}");
            return Err(SmsError::GatewayUnavailable);
        }
        Ok(())
    }

    async fn send(&self, to: &PhoneNumber, path: &str, values: Value, code: &str) -> Result<(), SmsError> {
        let sent = self.transmit(to, path, values, code).await;
        self.count(sent);
        sent
    }

    async fn transmit(
        &self,
        to: &PhoneNumber,
        path: &str,
        values: Value,
        code: &str,
    ) -> Result<(), SmsError> {
        let text = self.texts.load().render(path, values).map_err(|error| {
            tracing::warn!(%error, "a message could not be composed");
            SmsError::GatewayUnavailable
        })?;
        let number = to.address().as_str();
        match &self.transport {
            Transport::Off => Err(SmsError::GatewayUnavailable),
            Transport::Directory(spool) => {
                spool.write(format!("To: +{number}\n\n{text}\n").into_bytes()).await.map_err(|error| {
                    tracing::warn!(%error, "a message could not be written into sms.directory");
                    SmsError::GatewayUnavailable
                })
            }
            Transport::Http(gateway) => {
                let fields = Fields { number, calling_code: to.calling_code(), text: &text, code };
                gateway.send(&fields).await.map_err(|reason| {
                    tracing::warn!(%reason, "a message was not sent");
                    match reason.may_be_about_the_message() {
                        true => SmsError::Refused,
                        false => SmsError::GatewayUnavailable,
                    }
                })
            }
        }
    }
}

/// The texts of messages.
pub struct SmsTexts {
    templates: Environment<'static>,
    server_name: String,
}

impl SmsTexts {
    /// Reads and renders every template.
    ///
    /// # Errors
    /// If a file cannot be read, or a template is wrong.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let templates = templates(config.mail.templates_dir.as_deref(), &config.mail.default_brand)?;
        let texts = Self { templates, server_name: config.server_name.clone() };
        for language in Language::ALL {
            for (kind, values) in
                [(Kind::Code, context! { code => "000000" }), (Kind::Visit, context! { link => "l" })]
            {
                let path = path(kind, language);
                texts.render(path, values).with_context(|| format!("{path} is wrong"))?;
            }
        }
        Ok(texts)
    }

    fn render(&self, path: &str, values: Value) -> anyhow::Result<String> {
        let values = context! { server_name => self.server_name.as_str(), ..values };
        let text = self.templates.get_template(path)?.render(values)?;
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn path(kind: Kind, language: Language) -> &'static str {
    match (kind, language) {
        (Kind::Code, Language::En) => "sms/en.txt",
        (Kind::Code, Language::Fr) => "sms/fr.txt",
        (Kind::Code, Language::De) => "sms/de.txt",
        (Kind::Code, Language::Es) => "sms/es.txt",
        (Kind::Visit, Language::En) => "sms/en.visit.txt",
        (Kind::Visit, Language::Fr) => "sms/fr.visit.txt",
        (Kind::Visit, Language::De) => "sms/de.visit.txt",
        (Kind::Visit, Language::Es) => "sms/es.visit.txt",
    }
}

fn templates(directory: Option<&Path>, brand: &str) -> anyhow::Result<Environment<'static>> {
    let mut texts = Environment::new();
    texts.set_undefined_behavior(UndefinedBehavior::Strict);
    for (language, kind) in Language::ALL.iter().flat_map(|l| [(*l, Kind::Code), (*l, Kind::Visit)]) {
        let path = path(kind, language);
        let source = template(directory, brand, path).context("mail.templates_dir")?;
        let source = source.with_context(|| format!("{path} is missing"))?;
        texts.add_template_owned(path, source).with_context(|| format!("{path} is wrong"))?;
    }
    Ok(texts)
}
