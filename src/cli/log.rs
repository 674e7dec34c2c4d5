//! `bindery log`: shows the logs of lookups and callers. It reads the files itself: whoever may read
//! the data directory is the operator, whether or not a server runs.

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    net::IpAddr,
};

use anyhow::{Context, anyhow, bail};

use super::{WithConfig, say};
use crate::{
    app::SystemClock,
    domain::{
        clock::Clock,
        day::Day,
        ids::UserId,
        time::{DAY, Millis, as_millis},
    },
    http::control::NOT_AN_ACCOUNT,
    logs::{self, CountedRow, LogKind, LookupSummary, printable},
};

/// Which log.
#[derive(clap::Subcommand)]
pub enum LogCommand {
    /// Who looked up how many addresses and found how many; with --json also which, as they were sent
    Lookups {
        /// Only what this Matrix ID looked up
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Which programs called from which IP addresses, and for what
    Access(Wanted),
    /// How often each IP address called, and how often it was refused
    Connections(Wanted),
}

/// Which rows, and how they are shown.
#[derive(clap::Args)]
pub struct Wanted {
    /// Only from this UTC day on (2027-01-15), or only the last so many days (3)
    #[arg(long)]
    since: Option<String>,
    /// Only what came from this IP address
    #[arg(long)]
    ip: Option<String>,
    /// Print each row as a line of JSON, as it is stored
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    with: WithConfig,
}

/// Which rows, understood.
struct Rows {
    since: Millis,
    ip: Option<IpAddr>,
    account: Option<UserId>,
    json: bool,
}

impl Rows {
    fn parse(wanted: &Wanted, account: Option<&str>) -> anyhow::Result<Self> {
        let since = wanted.since.as_deref().map(since).transpose()?.unwrap_or(Millis(0));
        let ip = wanted
            .ip
            .as_deref()
            .map(|text| text.parse::<IpAddr>().map_err(|_| anyhow!("--ip: '{text}' is not an IP address")));
        let account = account.map(|text| {
            UserId::parse(text).with_context(|| format!("--account: '{text}' is {NOT_AN_ACCOUNT}"))
        });
        let ip = ip.transpose()?.map(|ip| ip.to_canonical());
        Ok(Self { since, ip, account: account.transpose()?, json: wanted.json })
    }

    /// The text to print for a row of the log of lookups, if it is wanted.
    fn of_lookup(&self, row: &str) -> Option<String> {
        let lookup: LookupSummary<'_> = serde_json::from_str(row).ok()?;
        let is_wanted = lookup.ts >= self.since
            && self.ip.is_none_or(|ip| ip == lookup.ip)
            && self.account.as_ref().is_none_or(|account| account.as_str() == lookup.account);
        let LookupSummary { ts, account, ip, algorithm, addresses, matches } = lookup;
        let table = || {
            let (when, account) = (ts.utc(), printable(&account));
            let ip = ip.to_string();
            format!("{when}  {account:<40}  {ip:<39}  {algorithm:<9}  {addresses:>9}  {matches:>7}\n")
        };
        is_wanted.then(|| if self.json { format!("{row}\n") } else { table() })
    }

    /// The same for a row of one of the two others.
    fn of_counted(&self, row: &str, kind: LogKind) -> Option<String> {
        let CountedRow { day, ip, agent, counts } = serde_json::from_str(row).ok()?;
        let is_wanted = day >= Day::of(self.since) && self.ip.is_none_or(|wanted| ip == Some(wanted));
        let table = || {
            let ip = ip.map_or_else(|| "all others".to_owned(), |ip| ip.to_string());
            let count = |column: &str| counts.get(column).copied().unwrap_or_default();
            let counts: Vec<String> =
                counts.iter().map(|(column, count)| format!("{} {count}", printable(column))).collect();
            match kind {
                LogKind::Access => {
                    let agent = printable(&agent.unwrap_or_default());
                    format!("{day}  {ip:<39}  {:<60}  {agent}\n", counts.join(", "))
                }
                _ => format!("{day}  {ip:<39}  {:>9}  {:>9}\n", count("requests"), count("refused")),
            }
        };
        is_wanted.then(|| if self.json { format!("{row}\n") } else { table() })
    }
}

/// Prints the rows of a log.
pub fn show(command: LogCommand) -> anyhow::Result<()> {
    let (kind, wanted, account) = match &command {
        LogCommand::Lookups { account, wanted } => (LogKind::Lookup, wanted, account.as_deref()),
        LogCommand::Access(wanted) => (LogKind::Access, wanted, None),
        LogCommand::Connections(wanted) => (LogKind::Connection, wanted, None),
    };
    let rows = Rows::parse(wanted, account)?;
    let data_dir = wanted.with.load()?.data_dir;
    if !logs::folder(&data_dir).exists() {
        bail!("there are no logs in {}; is data_dir right, and has a server run there?", data_dir.display());
    }
    match print(&data_dir, kind, &rows) {
        Ok(0) if !rows.json => say("The log has no such rows.\n"),
        // Whoever reads the output has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => {
            outcome
                .with_context(|| format!("cannot read the logs in {}", logs::folder(&data_dir).display()))?;
            Ok(())
        }
    }
}

/// Prints what is wanted of a log; gives how many rows that was.
fn print(data_dir: &std::path::Path, kind: LogKind, rows: &Rows) -> io::Result<u64> {
    let mut output = BufWriter::new(io::stdout().lock());
    let mut printed = 0;
    logs::rows(&logs::folder(data_dir), kind, Day::of(rows.since), |row| {
        let text = match kind {
            LogKind::Lookup => rows.of_lookup(row),
            _ => rows.of_counted(row, kind),
        };
        let Some(text) = text else { return Ok(()) };
        if printed == 0 && !rows.json {
            output.write_all(head(kind).as_bytes())?;
        }
        printed += 1;
        output.write_all(text.as_bytes())
    })?;
    output.flush()?;
    Ok(printed)
}

fn head(kind: LogKind) -> String {
    let (day, ip) = ("day", "IP address");
    match kind {
        LogKind::Lookup => format!(
            "{:<16}  {:<40}  {ip:<39}  {:<9}  {:>9}  {:>7}\n",
            "time (UTC)", "account", "algorithm", "addresses", "matches"
        ),
        LogKind::Access => format!("{day:<10}  {ip:<39}  {:<60}  program\n", "requests"),
        LogKind::Connection => format!("{day:<10}  {ip:<39}  {:>9}  {:>9}\n", "requests", "refused"),
    }
}

/// The beginning that was asked for.
fn since(text: &str) -> anyhow::Result<Millis> {
    if let Ok(days) = text.parse::<u32>() {
        let length = as_millis(DAY).saturating_mul(days.into());
        return Ok(Millis(SystemClock.now().0.saturating_sub(length)));
    }
    let day = Day::parse(text);
    let day = day.with_context(|| {
        format!("--since: '{text}' is neither a day like 2027-01-15 nor a number of days")
    })?;
    Ok(day.start())
}
