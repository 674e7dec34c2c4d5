//! `bindery config check`: whether the server could start, what people would have to accept, and how
//! many of them would be asked.

use super::{
    control::{ask, server},
    say,
};
use crate::{
    config::Config,
    domain::terms::Required,
    http::control::terms::PLAN,
    ops::privacy_notice::{Effect, Planned},
    store::ReadOnly,
};

/// Says what a good configuration comes to. That the data cannot be looked at is no mistake of the configuration.
pub fn check(config: &Config) -> anyhow::Result<()> {
    say(&format!(
        "The configuration is good. This is {}, storing in {}.\n",
        config.server_name,
        config.data_dir.display()
    ))?;
    for key in config.operator.unsaid() {
        say(&format!("Warning: {key} is empty, and the privacy notice says so to everybody.\n"))?;
    }
    let planned = Planned::by(config);
    match look(config, &planned) {
        Ok(Some(effect)) => {
            say_documents(&planned, &effect.required)?;
            say_asked(&effect)
        }
        Ok(None) => {
            say_documents(&planned, &planned.required(&[]))?;
            say("There is no database yet, so nobody has accepted anything before.\n")
        }
        Err(error) => {
            say(&format!("How many people would be asked to accept it cannot be said: {error:#}.\n"))
        }
    }
}

/// What would come of it, says the server that runs, or the database if none does; `None` if there is no database.
fn look(config: &Config, planned: &Planned) -> anyhow::Result<Option<Effect>> {
    let Some(client) = server(config)? else {
        return Ok(ReadOnly::open(&config.data_dir)?
            .map(|database| Effect::on(&database, planned))
            .transpose()?);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(ask(&client, PLAN, planned))?;
    Ok(Some(serde_json::from_value(answer)?))
}

fn say_documents(planned: &Planned, required: &[Required]) -> anyhow::Result<()> {
    let what = if planned.documents.is_empty() { "the privacy notice" } else { "your document" };
    for Required { id, document, .. } in required {
        let version = &document.version;
        let url =
            document.languages.get("en").or(document.languages.values().next()).map_or("", |text| &text.url);
        say(&format!("People have to accept {what} {id}, version {version}: {url}\n"))?;
    }
    Ok(())
}

fn say_asked(effect: &Effect) -> anyhow::Result<()> {
    let Effect { accounts, asked, .. } = effect;
    say(&match (accounts, asked) {
        (0, _) => "No account has accepted anything before.\n".to_owned(),
        (_, 0) => format!("Accounts that have accepted something before: {accounts}. None is asked again.\n"),
        _ => format!(
            "Accounts that have accepted something before: {accounts}. Of these, {asked} will be asked to accept this.\n"
        ),
    })
}
