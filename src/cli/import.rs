//! `bindery import`: takes over the data of another identity server, and reports what it took and what it left.

use std::{fs, path::PathBuf, sync::Arc};

use indicatif::{ProgressBar, ProgressStyle};

use super::{WithConfig, control::runtime, print, table::Table};
use crate::{
    app::SystemClock,
    config::Config,
    domain::clock::Clock,
    import::{Report, Rows, Source},
    ops::{self, import::Outcome},
    store::{self, Store},
};

/// The database cache of an import: the index of a million addresses, whose order is random, fits in.
const CACHE_BYTES: usize = 256 << 20;

/// Where the data comes from.
#[derive(clap::Subcommand)]
pub enum ImportCommand {
    /// Take over the data of a Sydent: stop it first, and start Bindery afterwards
    Sydent(SydentArguments),
}

/// The files of a Sydent.
#[derive(clap::Args)]
pub struct SydentArguments {
    /// Its configuration, sydent.conf
    #[arg(long, value_name = "FILE")]
    sydent_config: PathBuf,
    /// Its database; without this, db.file of its configuration
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Report what an import would do, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    with: WithConfig,
}

/// Runs one of them.
pub fn run(ImportCommand::Sydent(arguments): ImportCommand) -> anyhow::Result<()> {
    let SydentArguments { sydent_config, database, dry_run, with } = arguments;
    let config = with.load()?;
    // It draws on a terminal only.
    let bar = ProgressBar::no_length()
        .with_style(ProgressStyle::with_template("{wide_bar} {percent}% of {human_len} rows, {eta} left")?);
    let step = Arc::new({
        let bar = bar.clone();
        move |rows| bar.inc(rows)
    });
    let source = Source::open(&config, &sydent_config, database.as_deref(), step)?;
    bar.set_length(source.steps()?);
    let base_url = source.settings().base_url.clone();
    let key_id = source.settings().key_id.clone();
    let imported = import(source, &config, dry_run);
    bar.finish_and_clear();
    match imported? {
        Outcome::Imported(report) => {
            if dry_run {
                print("This was a rehearsal: nothing was changed. An import would say:\n\n")?;
            }
            print_report(&report, &key_id)?;
            print_url(&config, base_url.as_deref())
        }
        Outcome::AlreadyImported(at) => print(&format!(
            "The same data was imported on {} (UTC) already, so nothing was changed.\n",
            at.utc()
        )),
    }
}

fn import(source: Source, config: &Config, dry_run: bool) -> anyhow::Result<Outcome<Report>> {
    let now = SystemClock.now();
    let (dir, name, genesis) = (&config.data_dir, config.name(), || ops::genesis(now));
    let was_missing = store::is_missing(dir);
    let store = match dry_run {
        true => Store::rehearse(dir, CACHE_BYTES, &name, genesis)?,
        false => Store::open(dir, CACHE_BYTES, &name, genesis)?,
    };
    let imported = runtime()?.block_on(source.import(&store, config, now));
    if imported.is_err() && was_missing && !dry_run {
        // While the lock is held. Otherwise, a server that is started now would begin with keys of its own.
        let _ = fs::remove_file(dir.join(store::DATABASE_FILE));
    }
    Ok(imported?)
}

fn print_report(report: &Report, key_id: &str) -> anyhow::Result<()> {
    let Report { local, replicated, invitations, tokens, consents, .. } = report;
    let mut taken = Table::new(["TAKEN", ""]);
    for (what, count) in [
        ("addresses published at this server", local),
        ("addresses published at its peers", replicated),
        ("pending invitations", invitations),
        ("access tokens", tokens),
        ("consents", consents),
    ] {
        taken.row([what, &count.to_string()]);
    }
    taken.row(["signing key", key_id]);
    let pepper = if report.pepper { "its own, until the next rotation" } else { "a new one" };
    taken.row(["lookup pepper", pepper]);
    print(&format!("{taken}\n"))?;
    if report.uncertain_keys > 0 {
        print(&format!(
            "Of the invitations, {} may not be accepted with the link in their mail: Sydent's database does not say which key that link has. Publishing the invited address accepts them.\n\n",
            report.uncertain_keys
        ))?;
    }
    if !report.left.is_empty() {
        let mut left = Table::new(["NOT TAKEN", "OF", "BECAUSE", "ROWS"]);
        for ((table, reason), rows) in &report.left {
            left.row([&rows.count.to_string(), table, reason, &named(rows)]);
        }
        print(&format!("{left}\n"))?;
    }
    if !report.peers.is_empty() {
        print(&format!(
            "Its peers ({}) have copies of what was published here. Bindery cannot tell them of an address that is withdrawn from now on: ask their operators to delete what came from this server.\n\n",
            report.peers.join(", ")
        ))?;
    }
    Ok(())
}

fn named(Rows { count, first }: &Rows) -> String {
    let names: Vec<String> = first.iter().map(i64::to_string).collect();
    let more = count.saturating_sub(first.len() as u64);
    match (names.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Homeservers ask Sydent's URL whether the keys of an invitation are valid, and the links in its mails lead there.
fn print_url(config: &Config, base_url: Option<&str>) -> anyhow::Result<()> {
    match base_url.map(|url| url.trim_end_matches('/')) {
        Some(url) if url != config.public_base_url => print(&format!(
            "Warning: the invitations of Sydent name {url}, and public_base_url is {}. They can be accepted only while the former leads to this server.\n",
            config.public_base_url
        )),
        _ => Ok(()),
    }
}
