//! `bindery audit`.

use serde::Serialize;

use super::{WithConfig, control::execute, person::parse_subject, print, table::Table};
use crate::{
    admin::ReadAudit,
    app::SystemClock,
    domain::{
        audit::Entry,
        clock::Clock,
        secret::hex,
        time::{DAY, Millis},
    },
};

/// Which entries, and how to print them.
#[derive(clap::Args)]
pub struct AuditArguments {
    /// Entries of the last so many days
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    since: u32,
    /// Only entries about this email address or phone number
    #[arg(long, conflicts_with = "mxid")]
    address: Option<String>,
    /// Only entries about this Matrix ID
    #[arg(long)]
    mxid: Option<String>,
    /// Print JSON, one entry a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    with: WithConfig,
}

/// Prints the audit.
pub fn audit(arguments: AuditArguments) -> anyhow::Result<()> {
    let AuditArguments { since, address, mxid, json, with } = arguments;
    let config = with.load()?;
    let about = parse_subject(address.as_deref(), mxid.as_deref())?;
    let since = SystemClock.now().before(DAY.saturating_mul(since)).unwrap_or(Millis(0));
    let entries = execute(config, ReadAudit { since, about })?;
    if json {
        return entries
            .iter()
            .try_for_each(|entry| print(&format!("{}\n", serde_json::to_string(&Line::of(entry))?)));
    }
    if entries.is_empty() {
        return print("No entry matches.\n");
    }
    let mut table = Table::new(["when (UTC)", "what", "by", "about"]);
    for entry in &entries {
        let Line { subject, .. } = Line::of(entry);
        let about = subject.as_deref().map_or("everybody", |hash| &hash[..12]);
        table.row([&entry.at.utc(), entry.deed.as_str(), entry.by.as_str(), about]);
    }
    print(&table.to_string())?;
    print("\nThe last column is a keyed hash. To find the entries of a person, give --address or --mxid.\n")
}

/// An entry as JSON, with its hash in hexadecimal.
#[derive(Serialize)]
struct Line {
    at: u64,
    deed: &'static str,
    by: &'static str,
    subject: Option<String>,
}

impl Line {
    fn of(entry: &Entry) -> Self {
        Self {
            at: entry.at.0,
            deed: entry.deed.as_str(),
            by: entry.by.as_str(),
            subject: entry.subject.map(|hash| hex(&hash)),
        }
    }
}
