//! `bindery export`, `bindery erase` and `bindery audit`: what an operator does about one person.

use anyhow::Context;
use serde::Serialize;

use super::{control::Data, say, table::Table};
use crate::{
    config::Config,
    domain::{
        audit::Entry,
        secret::hex,
        time::{DAY, Millis},
    },
    http::control::people::{AUDIT, AuditQuery, ERASE, EXPORT, Person},
    ops::person::erasure::Erased,
};

/// What is typed to say who is meant.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Meant {
    /// An e-mail address, or a telephone number with its country code
    #[arg(long)]
    address: Option<String>,
    /// A Matrix ID, like @alice:example.org
    #[arg(long)]
    mxid: Option<String>,
}

impl Meant {
    fn person(self) -> anyhow::Result<Person> {
        let person = self.address.map(Person::Address).or(self.mxid.map(Person::Mxid));
        person.context("say who: --address or --mxid")
    }
}

/// Prints a copy of everything that is stored about a person.
pub fn export(config: Config, meant: Meant) -> anyhow::Result<()> {
    let person = meant.person()?;
    let whom = person.parse().map_err(anyhow::Error::msg)?;
    let offline = async move |core: &_| Ok(serde_json::to_value(whom.export(core).await?)?);
    let copy: serde_json::Value = Data::find(config)?.run(EXPORT, &person, offline)?;
    say(&format!("{}\n", serde_json::to_string_pretty(&copy)?))
}

/// Erases everything about a person.
pub fn erase(config: Config, meant: Meant) -> anyhow::Result<()> {
    let person = meant.person()?;
    let whom = person.parse().map_err(anyhow::Error::msg)?;
    let offline = async move |core: &_| Ok(whom.erase(core).await?);
    let erased: Erased = Data::find(config)?.run(ERASE, &person, offline)?;
    if erased.total() == 0 {
        return say("Nothing was stored about them.\n");
    }
    let Erased { bindings, others } = erased;
    say(&format!(
        "Erased: {bindings} published and {others} other entries. Nobody finds them any more. Their last bytes leave the disk with the next rewrite of the file (bindery retention status), rows of the logs at their age.\n"
    ))
}

/// Which entries are wanted.
#[derive(clap::Args)]
pub struct AuditArguments {
    /// Entries of the last so many days
    #[arg(long, default_value_t = 365)]
    since: u32,
    /// Entries about this e-mail address or telephone number only
    #[arg(long, conflicts_with = "mxid")]
    address: Option<String>,
    /// Entries about this Matrix ID only
    #[arg(long)]
    mxid: Option<String>,
    /// Print JSON, an entry a line
    #[arg(long)]
    json: bool,
}

/// Prints who had data handed out or erased, and when.
pub fn audit(config: Config, now: Millis, arguments: AuditArguments) -> anyhow::Result<()> {
    let AuditArguments { since, address, mxid, json } = arguments;
    let about = address.map(Person::Address).or(mxid.map(Person::Mxid));
    if let Some(person) = &about {
        person.parse().map_err(anyhow::Error::msg)?;
    }
    let since = now.before(DAY.saturating_mul(since)).unwrap_or(Millis(0));
    let query = AuditQuery { since, about };
    let offline = async |core: &_| Ok(query.run(core).await?);
    let entries: Vec<Entry> = Data::find(config)?.run(AUDIT, &query, offline)?;
    if json {
        return entries
            .iter()
            .try_for_each(|entry| say(&format!("{}\n", serde_json::to_string(&Line::of(entry))?)));
    }
    if entries.is_empty() {
        return say("There are no such entries.\n");
    }
    let mut table = Table::new(["when (UTC)", "what", "by", "about"]);
    for entry in &entries {
        let Line { subject, .. } = Line::of(entry);
        let about = subject.as_deref().map_or("everybody", |hash| &hash[..12]);
        table.row([&entry.at.utc(), entry.deed.as_str(), entry.by.as_str(), about]);
    }
    say(&table.to_string())?;
    say(
        "\nThe last column is a keyed hash: with --address or --mxid you see whether it is somebody you know of.\n",
    )
}

/// An entry as JSON, the hash as people write hashes.
#[derive(Serialize)]
struct Line {
    at: u64,
    deed: String,
    by: String,
    subject: Option<String>,
}

impl Line {
    fn of(entry: &Entry) -> Self {
        Self {
            at: entry.at.0,
            deed: entry.deed.as_str().to_owned(),
            by: entry.by.as_str().to_owned(),
            subject: entry.subject.map(|hash| hex(&hash)),
        }
    }
}
