//! Messages to telephones: a text is made from a template and handed to a gateway, or written into
//! a directory.
//!
//! Nothing here decides who may ask for one, and nothing of a message reaches the log.

use std::path::Path;

use anyhow::Context;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::{
    sms_http::{Fields, Gateway},
    spool::Spool,
};
use crate::{
    assets::template,
    config::{self, Config},
    domain::{ids::Token, language::Language, phone::PhoneNumber},
};

/// A message with a code.
pub struct ValidationSms<'a> {
    /// To whom.
    pub to: &'a PhoneNumber,
    /// The code.
    pub code: &'a Token,
    /// The language it is written in.
    pub language: Language,
}

/// A message with the link to the reader's own page.
pub struct VisitSms<'a> {
    /// To whom.
    pub to: &'a PhoneNumber,
    /// The link.
    pub link: &'a str,
    /// The language it is written in.
    pub language: Language,
}

/// What a message is for; the names of the templates.
#[derive(Clone, Copy)]
enum Kind {
    Code,
    Visit,
}

/// The message was not taken.
#[derive(Debug, thiserror::Error)]
#[error("the message was not taken")]
pub struct NotSent;

/// The way out for messages.
pub struct SmsGateway {
    transport: Transport,
    texts: Environment<'static>,
    countries: Vec<String>,
    server_name: String,
}

enum Transport {
    Off,
    Directory(Spool),
    Http(Box<Gateway>),
}

impl SmsGateway {
    /// Sets up the transport and reads the templates, which must all render.
    ///
    /// # Errors
    /// If a file cannot be read, or a template or a part of the request is wrong.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let transport = match config.sms.gateway {
            config::Gateway::Off => Transport::Off,
            config::Gateway::Directory => Transport::Directory(Spool::new(config.sms_directory(), "txt")),
            config::Gateway::Http => Transport::Http(Box::new(Gateway::new(&config.sms)?)),
        };
        let texts = texts(config.mail.templates_dir.as_deref(), &config.mail.default_brand)?;
        let (countries, server_name) = (config.sms.countries.clone(), config.server_name.clone());
        let gateway = Self { transport, texts, countries, server_name };
        for language in Language::ALL {
            for (kind, values) in
                [(Kind::Code, context! { code => "000000" }), (Kind::Visit, context! { link => "l" })]
            {
                let path = path(kind, language);
                gateway.text(path, values).with_context(|| format!("{path} is wrong"))?;
            }
        }
        Ok(gateway)
    }

    /// Whether messages go to the country of this number.
    pub fn may_write_to(&self, number: &PhoneNumber) -> bool {
        let is_named = |named: &String| named == "*" || Some(named.as_str()) == number.region();
        !matches!(self.transport, Transport::Off) && self.countries.iter().any(is_named)
    }

    /// Hands a message to the gateway.
    ///
    /// # Errors
    /// If the gateway did not say that it has it; why is in the log, without number and code.
    pub async fn send(&self, sms: &ValidationSms<'_>) -> Result<(), NotSent> {
        let (code, path) = (sms.code.as_str(), path(Kind::Code, sms.language));
        self.deliver(sms.to, path, context! { code }, code).await
    }

    /// Hands a message to the gateway that leads its reader to their own page.
    ///
    /// # Errors
    /// As [`SmsGateway::send`], and if the gateway has texts of its own and takes only codes.
    pub async fn welcome(&self, sms: &VisitSms<'_>) -> Result<(), NotSent> {
        if let Transport::Http(gateway) = &self.transport
            && !gateway.takes_texts()
        {
            tracing::warn!("no link can be sent to a telephone: sms.http.body does not use {{text}}");
            return Err(NotSent);
        }
        let path = path(Kind::Visit, sms.language);
        self.deliver(sms.to, path, context! { link => sms.link }, "").await
    }

    async fn deliver(&self, to: &PhoneNumber, path: &str, values: Value, code: &str) -> Result<(), NotSent> {
        let text = self.text(path, values).map_err(|error| {
            tracing::warn!(%error, "a message could not be composed");
            NotSent
        })?;
        let number = to.address().as_str();
        match &self.transport {
            Transport::Off => Err(NotSent),
            Transport::Directory(spool) => {
                spool.write(format!("To: +{number}\n\n{text}\n").into_bytes()).await.map_err(|error| {
                    tracing::warn!(%error, "a message could not be written");
                    NotSent
                })
            }
            Transport::Http(gateway) => {
                let fields = Fields { number, calling_code: to.calling_code(), text: &text, code };
                gateway.send(&fields).await.map_err(|reason| {
                    tracing::warn!(%reason, "a message was not sent");
                    NotSent
                })
            }
        }
    }

    fn text(&self, path: &str, values: Value) -> anyhow::Result<String> {
        let values = context! { server_name => self.server_name.as_str(), ..values };
        let text = self.texts.get_template(path)?.render(values)?;
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

fn texts(directory: Option<&Path>, brand: &str) -> anyhow::Result<Environment<'static>> {
    let mut texts = Environment::new();
    texts.set_undefined_behavior(UndefinedBehavior::Strict);
    for (language, kind) in Language::ALL.iter().flat_map(|l| [(*l, Kind::Code), (*l, Kind::Visit)]) {
        let path = path(kind, language);
        let source = template(directory, brand, path).with_context(|| format!("cannot read {path}"))?;
        let source = source.with_context(|| format!("{path} is missing"))?;
        texts.add_template_owned(path, source).with_context(|| format!("{path} is wrong"))?;
    }
    Ok(texts)
}
