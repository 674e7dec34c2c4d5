//! Renders page templates in the reader's language.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, HttpResponseBuilder, http::StatusCode};
use anyhow::Context;
use minijinja::{
    AutoEscape, Environment, State, UndefinedBehavior,
    value::{Serde, Value as Words},
};
use serde_json::{Value, json};

use crate::{
    assets::{self, keep_slashes},
    config::Config,
    domain::{language::Language, time::Millis},
};

/// The templates and texts of the pages.
pub struct Pages {
    environment: Environment<'static>,
    texts: BTreeMap<Language, Value>,
    server_name: String,
    policy: String,
}

const TEMPLATES: &[&str] = &[
    "layout.html",
    "front.html",
    "accounts.html",
    "confirm.html",
    "identifier.html",
    "decision.html",
    "outcome.html",
    "editions.html",
    "edition.html",
    "languages.html",
    "me.html",
    "me_visit.html",
    "me_data.html",
    "me_button.html",
    "me_erase.html",
    "stop.html",
    "me_outcome.html",
];

impl Pages {
    /// Reads the built-in templates and translations.
    ///
    /// # Errors
    /// If one is missing or wrong.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        keep_slashes(&mut environment);
        environment.add_filter("days", length);
        environment.add_filter("time", time);
        for name in TEMPLATES {
            environment.add_template_owned(*name, text(&format!("pages/{name}"))?)?;
        }
        let mut texts = BTreeMap::new();
        for language in Language::ALL {
            texts.insert(language, toml::from_str(&text(&format!("i18n/{}.toml", language.as_str()))?)?);
        }
        let server_name = config.server_name.clone();
        Ok(Self { environment, texts, server_name, policy: content_security_policy(config) })
    }

    /// A page as a response.
    pub fn show(
        &self,
        status: StatusCode,
        template: &str,
        language: Language,
        content: Value,
    ) -> HttpResponse {
        match self.render(template, language, content) {
            Ok(html) => self.private_response(status).content_type("text/html; charset=utf-8").body(html),
            Err(error) => {
                tracing::error!(%error, template, "a page could not be rendered");
                HttpResponse::InternalServerError().body("Something is wrong with this server.")
            }
        }
    }

    /// A response for one person. Its URL may contain a token, so its headers forbid to cache, embed or index
    /// it, and to send its URL as referrer.
    pub fn private_response(&self, status: StatusCode) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(status);
        response
            .insert_header(("Content-Security-Policy", self.policy.as_str()))
            .insert_header(("Referrer-Policy", "no-referrer"))
            .insert_header(("X-Content-Type-Options", "nosniff"))
            .insert_header(("X-Robots-Tag", "noindex"))
            .insert_header(("Cache-Control", "no-store"));
        response
    }

    fn render(&self, template: &str, language: Language, content: Value) -> anyhow::Result<String> {
        let values = json!({
            "t": self.texts.get(&language).context("there are no texts in this language")?,
            "lang": language.as_str(),
            "server_name": self.server_name,
            "page": content,
        });
        Ok(self.environment.get_template(template)?.render(Serde(values))?)
    }
}

/// What a page may load: our own styles and icon. Forms go to us, and from there to where the
/// operator lets people be sent on, because browsers hold redirects of a form to this as well.
fn content_security_policy(config: &Config) -> String {
    let mut policy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                      frame-ancestors 'none'; form-action 'self'"
        .to_owned();
    for prefix in &config.validation.next_link_prefixes {
        policy.extend([" ", prefix]);
    }
    policy
}

/// A number of days in words, in the language that the value `lang` names.
pub(super) fn length(state: &State<'_, '_>, days: u64) -> String {
    let language = state.lookup("lang").and_then(|code| Language::parse(code.as_str()?)).unwrap_or_default();
    let (one, many) = match language {
        Language::En => ("day", "days"),
        Language::Fr => ("jour", "jours"),
        Language::De => ("Tag", "Tage"),
        Language::Es => ("día", "días"),
    };
    format!("{days} {}", if days == 1 { one } else { many })
}

/// A time for people and for programs that read pages to them.
fn time(at: u64) -> Words {
    let minute = Millis(at).utc();
    Words::from_safe_string(format!("<time datetime=\"{minute}Z\">{minute} UTC</time>"))
}

/// A text that is compiled in.
pub(super) fn text(path: &str) -> anyhow::Result<String> {
    let bytes = assets::embedded(path).with_context(|| format!("{path} is missing"))?;
    Ok(String::from_utf8(bytes.into_owned())?)
}
