//! Renders the texts of the privacy notice from a template in each language and the configuration.
//!
//! Bindery stores these texts with the edition, without the frame of a page.

use anyhow::Context;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};
use serde_json::json;

use super::render::text;
use crate::{
    assets::{add_formats, keep_slashes},
    domain::{edition::Texts, language::Language, notice::Notice, retention, time::DAY},
};

/// Renders the texts of a notice in all languages.
///
/// # Errors
/// If a built-in template does not render.
pub fn texts(notice: &Notice) -> anyhow::Result<Texts> {
    Language::ALL.into_iter().map(|language| Ok((language, render(notice, language)?))).collect()
}

fn render(notice: &Notice, language: Language) -> anyhow::Result<String> {
    let name = format!("privacy/{}.html", language.as_str());
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    keep_slashes(&mut environment);
    add_formats(&mut environment);
    environment.add_template_owned(name.clone(), text(&name)?)?;
    let mut values = json!(notice);
    values["lang"] = json!(language.as_str());
    values["session_hours"] = json!(retention::SESSION.as_secs() / 3600);
    values["visit_minutes"] = json!(retention::VISIT_PAGE.as_secs() / 60);
    values["audit_days"] = json!(retention::AUDIT.as_secs() / DAY.as_secs());
    values["give_up_days"] = json!(retention::GIVE_UP.as_secs() / DAY.as_secs());
    let template = environment.get_template(&name)?;
    template.render(Serde(values)).with_context(|| format!("cannot render the privacy notice from {name}"))
}
