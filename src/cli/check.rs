//! `bindery config`: checks whether the server can start, which terms people must accept, and how
//! many accounts it would ask again; prints an example.

use super::{WithConfig, control::RunningServer, print};
use crate::{
    admin::PlanTerms,
    config::{self, Config},
    domain::terms::Required,
    ops::privacy_notice::{Effect, Planned},
    remote::dns::Dns,
    store::ReadOnly,
};

/// The commands about the configuration.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Check whether the server can start, and whom it would ask to accept terms
    Check(WithConfig),
    /// Print every key with its default and what it is for
    Example,
}

/// Runs one of them.
pub fn run(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(with) => check(&with.load_for_server()?),
        ConfigCommand::Example => print(&config::example()),
    }
}

/// A database that cannot be read is not a mistake in the configuration: the check still succeeds.
fn check(config: &Config) -> anyhow::Result<()> {
    print(&format!(
        "The configuration is good. It comes from {}. This is {}, storing in {}.\n",
        config.source,
        config.server_name,
        config.data_dir.display()
    ))?;
    for warning in config.warnings().into_iter().chain(Dns::missing_name_server()) {
        print(&format!("Warning: {warning}.\n"))?;
    }
    let planned = Planned::by(config);
    match plan_effect(config, &planned) {
        Ok(Some(effect)) => {
            print_documents(&planned, &effect.required)?;
            print_asked(&effect)
        }
        Ok(None) => {
            print_documents(&planned, &planned.required(&[]))?;
            print("There is no database yet, so no account has accepted anything before.\n")
        }
        Err(error) => {
            print(&format!("Cannot tell how many accounts would be asked to accept it: {error:#}.\n"))
        }
    }
}

/// Asks the running server; otherwise reads the database without creating or migrating it, unlike
/// other commands. `None` if there is no database.
fn plan_effect(config: &Config, planned: &Planned) -> anyhow::Result<Option<Effect>> {
    match RunningServer::find(config)? {
        Some(server) => server.execute(&PlanTerms(planned.clone())).map(Some),
        None => Ok(ReadOnly::open(&config.data_dir)?.map(|data| Effect::on(&data, planned)).transpose()?),
    }
}

fn print_documents(planned: &Planned, required: &[Required]) -> anyhow::Result<()> {
    let what = if planned.documents.is_empty() { "the privacy notice" } else { "your document" };
    for Required { id, document, .. } in required {
        let version = &document.version;
        let url =
            document.languages.get("en").or(document.languages.values().next()).map_or("", |text| &text.url);
        print(&format!("People have to accept {what} {id}, version {version}: {url}\n"))?;
    }
    Ok(())
}

fn print_asked(effect: &Effect) -> anyhow::Result<()> {
    let Effect { accounts, asked, .. } = effect;
    print(&match (accounts, asked) {
        (0, _) => "No account has accepted anything before.\n".to_owned(),
        (_, 0) => format!("Accounts that have accepted something before: {accounts}. None is asked again.\n"),
        _ => format!(
            "Accounts that have accepted something before: {accounts}. Of these, {asked} will be asked to accept this.\n"
        ),
    })
}
