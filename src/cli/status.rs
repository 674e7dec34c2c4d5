//! `bindery status`: prints the running server on one screen. Without a server, what the database says.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stdout},
    thread,
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};

use super::{WithConfig, control::RunningServer, print, table::Table};
use crate::{
    admin::{GetStatus, Status},
    config::Config,
    domain::time::Millis,
    ops::monitoring::DatabaseStatus,
    store::ReadOnly,
};

/// The pause between two screens.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Clears the terminal and goes to its first column and row (ECMA-48).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// The arguments.
#[derive(clap::Args)]
pub struct StatusArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print it again every two seconds, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    #[command(flatten)]
    with: WithConfig,
}

/// Prints it.
pub fn status(arguments: StatusArguments) -> anyhow::Result<()> {
    let config = arguments.with.load()?;
    if !arguments.watch {
        return print(&screen(&config, arguments.json)?);
    }
    ensure!(stdout().is_terminal(), "--watch needs a terminal");
    loop {
        print(&format!("{CLEAR}{}", screen(&config, false)?))?;
        thread::sleep(WATCH_INTERVAL);
    }
}

fn screen(config: &Config, json: bool) -> anyhow::Result<String> {
    let Some(server) = RunningServer::find(config)? else { return without_server(config, json) };
    let status = server.execute(&GetStatus)?;
    if !json {
        return Ok(text(&status));
    }
    let mut value = serde_json::to_value(&status)?;
    value["running"] = json!(true);
    Ok(format!("{value:#}\n"))
}

/// Reads the database without migrating or repairing it.
fn without_server(config: &Config, json: bool) -> anyhow::Result<String> {
    let read =
        || anyhow::Ok(ReadOnly::open(&config.data_dir)?.map(|data| DatabaseStatus::of(&data)).transpose()?);
    let database = read();
    if json {
        let database = database.ok().flatten().map_or(Ok(Value::Null), serde_json::to_value)?;
        return Ok(format!("{:#}\n", json!({ "running": false, "database": database })));
    }
    let mut text = format!("No server runs on {}.\n", config.data_dir.display());
    match database {
        Ok(Some(database)) => {
            let mut table = Table::new(["database", &format!("schema {}", database.schema)]);
            add_database(&mut table, &database);
            text += &table.to_string();
        }
        Ok(None) => text += "There is no database yet.\n",
        Err(error) => text += &format!("Its database cannot be read while no server runs: {error:#}\n"),
    }
    Ok(text)
}

fn text(status: &Status) -> String {
    let mut table = Table::new(["server", &format!("{}, Bindery {}", status.server_name, status.version)]);
    table.row(["running since", &utc(Some(status.started))]);
    table.row(["ready", if status.readiness.ready { "yes" } else { "no" }]);
    for (part, says) in &status.readiness.parts {
        table.row([&format!("  {part}"), says]);
    }
    let (used, free) = (mebibytes(status.database_bytes), mebibytes(status.free_bytes));
    table.row(["database", &format!("schema {}, {used}, {free} free on the disk", status.database.schema)]);
    add_database(&mut table, &status.database);
    let since = utc(Some(status.counted_since));
    table.row([&format!("since {since}"), ""]);
    table.row(["  mails", &counts(&status.mails)]);
    table.row(["  messages to phones", &counts(&status.sms)]);
    table.row(["  refused by limits", &counts(&status.refused)]);
    let warnings = status.warnings.iter().map(|warning| format!("Warning: {warning}.\n"));
    table.to_string() + &warnings.collect::<String>()
}

fn add_database(table: &mut Table<2>, database: &DatabaseStatus) {
    table.row(["bindings", &database.bindings.to_string()]);
    table.row(["access tokens", &database.tokens.to_string()]);
    table.row(["validation sessions", &database.sessions.to_string()]);
    for of_kind in &database.outbox {
        let oldest = of_kind.oldest.map(|oldest| format!(", the oldest since {}", utc(Some(oldest))));
        let waiting = format!("{} waiting{}", of_kind.waiting, oldest.unwrap_or_default());
        table.row([&format!("outbox: {}", of_kind.kind), &waiting]);
    }
    table.row(["last retention", &utc(database.retention)]);
    table.row(["last rewrite", &utc(database.rewrite)]);
    table.row(["pepper since", &utc(database.rotation)]);
    table.row(["last backup", &utc(database.backup)]);
}

fn utc(time: Option<Millis>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{} UTC", time.utc()))
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}
