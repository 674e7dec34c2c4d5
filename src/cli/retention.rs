//! `bindery retention`.

use super::{WithConfig, control::execute, print, table::Table};
use crate::{
    admin::{GetRetentionStatus, RunRetention},
    config::Config,
    domain::time::Millis,
};

/// The commands about retention.
#[derive(clap::Subcommand)]
pub enum RetentionCommand {
    /// Print each rule: how many rows there are, how old the oldest is, and when it expires
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        with: WithConfig,
    },
    /// Delete now what has expired; by this you also say that the clock is right
    Run(WithConfig),
}

/// Runs one of them.
pub fn run(command: RetentionCommand) -> anyhow::Result<()> {
    match command {
        RetentionCommand::Status { json, with } => print_status(with.load()?, json),
        RetentionCommand::Run(with) => delete_expired(with.load()?),
    }
}

fn print_status(config: Config, json: bool) -> anyhow::Result<()> {
    let status = execute(config, GetRetentionStatus)?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&status)?));
    }
    let mut table = Table::new(["what", "kept", "rows", "oldest (UTC)", "first deleted (UTC)"]);
    for rule in &status.rules {
        let time = |time: Option<Millis>| time.map_or_else(|| "-".to_owned(), Millis::utc);
        table.row([&rule.what, &rule.rule, &rule.rows.to_string(), &time(rule.oldest), &time(rule.goes)]);
    }
    print(&table.to_string())?;
    if status.halted {
        print(
            "\nBindery deletes no expired data, because the clock jumped or the server was off for more than a month. If the clock is wrong, set it. If it is right, run 'bindery retention run'.\n",
        )?;
    }
    Ok(())
}

fn delete_expired(config: Config) -> anyhow::Result<()> {
    let deleted = execute(config, RunRetention)?;
    let counts = [
        (deleted.sessions, "validation sessions"),
        (deleted.invitations, "invitations"),
        (deleted.visits, "visits"),
        (deleted.outbox, "mails and messages that could not be sent"),
        (deleted.tokens, "access tokens"),
        (deleted.consents, "accepted documents"),
        (deleted.audit, "audit entries"),
    ];
    let parts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => print("Nothing had expired.\n")?,
        false => print(&format!("Deleted: {}.\n", parts.join(", ")))?,
    }
    if deleted.rewritten {
        print("The database was rewritten: it no longer holds bytes of deleted rows.\n")?;
    }
    Ok(())
}
