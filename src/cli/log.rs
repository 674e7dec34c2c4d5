//! `bindery log`: prints the logs of lookups and callers. It reads the files itself, with and without a
//! running server, after it has recorded that in the audit.

use std::{
    io::{self, BufWriter, ErrorKind, Write},
    net::IpAddr,
};

use anyhow::{Context, anyhow, bail};

use super::{WithConfig, control::execute, print};
use crate::{
    admin::{NoteLogReading, Subject, input::Input},
    app::SystemClock,
    domain::{
        clock::Clock,
        day::Day,
        ids::UserId,
        shown::{ShownId, ascii_json},
        time::{DAY, Millis, as_millis},
    },
    logs::{self, CountedRow, LogKind, LookupSummary, printable},
};

/// The commands about logs.
#[derive(clap::Subcommand)]
pub enum LogCommand {
    /// Print who looked up how many addresses and found how many; --json also prints the hashes sent
    Lookups {
        /// Only lookups by this Matrix ID
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        rows: RowArguments,
    },
    /// Print which programs called from which IP addresses, and for what
    Access(RowArguments),
    /// Print how often each IP address called, and how often it was refused
    Connections(RowArguments),
}

/// Which rows, and how to print them.
#[derive(clap::Args)]
pub struct RowArguments {
    /// Only since this UTC day (2027-01-15), or of the last so many days (3)
    #[arg(long)]
    since: Option<String>,
    /// Only requests from this IP address
    #[arg(long)]
    ip: Option<String>,
    /// Print each row as a line of JSON, as it is in the log
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    with: WithConfig,
}

/// The rows to print.
struct Filter {
    since: Millis,
    ip: Option<IpAddr>,
    account: Option<UserId>,
    json: bool,
}

impl Filter {
    fn parse(arguments: &RowArguments, account: Option<&str>) -> anyhow::Result<Self> {
        let since = arguments.since.as_deref().map(parse_since).transpose()?.unwrap_or(Millis(0));
        let ip = arguments
            .ip
            .as_deref()
            .map(|text| text.parse::<IpAddr>().map_err(|_| anyhow!("--ip: '{text}' is not an IP address")));
        let account = account.map(|text| UserId::from_input(text).context("--account")).transpose()?;
        let ip = ip.transpose()?.map(|ip| ip.to_canonical());
        Ok(Self { since, ip, account, json: arguments.json })
    }

    /// Formats a row of the log of lookups; `None` if the filter excludes it.
    fn format_lookup(&self, row: &str) -> Option<String> {
        let lookup: LookupSummary<'_> = serde_json::from_str(row).ok()?;
        let is_wanted = lookup.ts >= self.since
            && self.ip.is_none_or(|ip| ip == lookup.ip)
            && self.account.as_ref().is_none_or(|account| account.as_str() == lookup.account);
        let LookupSummary { ts, account, ip, algorithm, addresses, matches } = lookup;
        let table = || {
            let shown = UserId::kept(&account).map(|account| ShownId::of_user(&account));
            let (homeserver, localpart) = shown
                .map_or_else(|| (None, printable(&account)), |shown| (shown.homeserver, shown.localpart));
            let (when, homeserver, ip) = (ts.utc(), homeserver.unwrap_or_default(), ip.to_string());
            format!(
                "{when}  {homeserver:<30}  {localpart:<30}  {ip:<39}  {algorithm:<9}  {addresses:>9}  {matches:>7}\n"
            )
        };
        is_wanted.then(|| if self.json { format!("{}\n", ascii_json(row)) } else { table() })
    }

    /// Formats a row of one of the other two; `None` if the filter excludes it.
    fn format_counted(&self, row: &str, kind: LogKind) -> Option<String> {
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
        is_wanted.then(|| if self.json { format!("{}\n", ascii_json(row)) } else { table() })
    }
}

/// Runs one of them.
pub fn run(command: &LogCommand) -> anyhow::Result<()> {
    let (kind, arguments, account) = match command {
        LogCommand::Lookups { account, rows } => (LogKind::Lookup, rows, account.as_deref()),
        LogCommand::Access(rows) => (LogKind::Access, rows, None),
        LogCommand::Connections(rows) => (LogKind::Connection, rows, None),
    };
    let filter = Filter::parse(arguments, account)?;
    let config = arguments.with.load()?;
    let data_dir = config.data_dir.clone();
    if !logs::folder(&data_dir).exists() {
        bail!(
            "there are no logs in {} (data_dir, from {}); check whether a server has run there",
            data_dir.display(),
            config.source
        );
    }
    let about = filter.account.clone().map(Subject::Mxid);
    execute(config, NoteLogReading { about })
        .context("the reading of a log must be recorded in the audit")?;
    match print_rows(&data_dir, kind, &filter) {
        Ok(0) if !filter.json => print("No row matches.\n"),
        // `head` or a pager closed the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => {
            outcome
                .with_context(|| format!("cannot read the logs in {}", logs::folder(&data_dir).display()))?;
            Ok(())
        }
    }
}

/// Prints the rows of a log and counts them.
fn print_rows(data_dir: &std::path::Path, kind: LogKind, filter: &Filter) -> io::Result<u64> {
    let mut output = BufWriter::new(io::stdout().lock());
    let mut printed = 0;
    logs::for_each_row(&logs::folder(data_dir), kind, Day::of(filter.since), |row| {
        let text = match kind {
            LogKind::Lookup => filter.format_lookup(row),
            _ => filter.format_counted(row, kind),
        };
        let Some(text) = text else { return Ok(()) };
        if printed == 0 && !filter.json {
            output.write_all(heading(kind).as_bytes())?;
        }
        printed += 1;
        output.write_all(text.as_bytes())
    })?;
    output.flush()?;
    Ok(printed)
}

fn heading(kind: LogKind) -> String {
    let (day, ip) = ("day", "IP address");
    match kind {
        LogKind::Lookup => format!(
            "{:<16}  {:<30}  {:<30}  {ip:<39}  {:<9}  {:>9}  {:>7}\n",
            "time (UTC)", "homeserver", "account there", "algorithm", "addresses", "matches"
        ),
        LogKind::Access => format!("{day:<10}  {ip:<39}  {:<60}  program\n", "requests"),
        LogKind::Connection => format!("{day:<10}  {ip:<39}  {:>9}  {:>9}\n", "requests", "refused"),
    }
}

fn parse_since(text: &str) -> anyhow::Result<Millis> {
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
