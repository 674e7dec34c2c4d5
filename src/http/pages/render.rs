//! Renders page templates in the reader's language.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, HttpResponseBuilder, http::StatusCode};
use anyhow::Context;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};
use serde_json::{Value, json};

use crate::{
    assets::{self, add_formats, keep_slashes, keep_words},
    config::Config,
    domain::language::Language,
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
    "published.html",
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
        add_formats(&mut environment);
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

/// A text of pages that is compiled in.
pub(super) fn text(path: &str) -> anyhow::Result<String> {
    let bytes = assets::embedded(path).with_context(|| format!("{path} is missing"))?;
    Ok(keep_words(std::str::from_utf8(&bytes)?))
}
