//! `bindery export` and `bindery erase`: the data of one person.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{UsageError, WithConfig, control::execute, print};
use crate::{
    admin::{Erase, Export, PreviewErasure, Subject, input::Input},
    domain::shown::ascii_json,
    ops::person::erasure::Erased,
};

/// The arguments of `export`.
#[derive(clap::Args)]
pub struct PersonArguments {
    #[command(flatten)]
    person: SubjectArguments,
    #[command(flatten)]
    with: WithConfig,
}

/// The arguments of `erase`.
#[derive(clap::Args)]
pub struct EraseArguments {
    #[command(flatten)]
    person: SubjectArguments,
    /// Erase without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    with: WithConfig,
}

/// The person.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct SubjectArguments {
    /// Their email address, or phone number with its country code
    #[arg(long)]
    address: Option<String>,
    /// Their Matrix ID, like @alice:example.org
    #[arg(long)]
    mxid: Option<String>,
}

impl SubjectArguments {
    fn parse(&self) -> anyhow::Result<Subject> {
        let subject = parse_subject(self.address.as_deref(), self.mxid.as_deref())?;
        subject.context("give --address or --mxid")
    }
}

/// Parses the options --address and --mxid; clap lets only one through.
pub fn parse_subject(address: Option<&str>, mxid: Option<&str>) -> anyhow::Result<Option<Subject>> {
    Ok(match (address, mxid) {
        (Some(text), _) => Some(Subject::Address(Input::from_input(text)?)),
        (None, Some(text)) => Some(Subject::Mxid(Input::from_input(text)?)),
        (None, None) => None,
    })
}

/// Prints everything that is stored about a person. Also an empty export succeeds: it is the answer to their request.
pub fn export(PersonArguments { person, with }: PersonArguments) -> anyhow::Result<()> {
    let document = execute(with.load()?, Export(person.parse()?))?;
    print(&format!("{}\n", ascii_json(&serde_json::to_string_pretty(&document)?)))?;
    if is_empty(&document) {
        let _ = writeln!(
            io::stderr(),
            "Nothing is stored about them, except in the audit that you exported it; check how you wrote the address or the Matrix ID."
        );
    }
    Ok(())
}

/// Whether an export has nothing but its own entries in the audit.
fn is_empty(export: &Value) -> bool {
    let members = export.as_object().into_iter().flatten();
    let mut lists = members.filter(|(name, _)| *name != "audit").filter_map(|(_, value)| value.as_array());
    lists.all(Vec::is_empty) && export["not_written_to_since"].is_null()
}

/// Erases everything that is stored about a person. Asks before, unless `--yes` is given.
pub fn erase(EraseArguments { person, yes, with }: EraseArguments) -> anyhow::Result<()> {
    if !yes && !io::stdin().is_terminal() {
        bail!(UsageError("erase asks before it erases, and standard input is no terminal; add --yes"));
    }
    let (config, subject) = (with.load()?, person.parse()?);
    if !yes {
        let found = execute(config.clone(), PreviewErasure(subject.clone()))?;
        if found.total() == 0 {
            return print("Nothing is stored about them.\n");
        }
        print(&format!(
            "This will be erased: {}.\nThere is no way back. Type yes to erase it: ",
            list(found)
        ))?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            bail!("nothing was erased");
        }
    }
    let erased = execute(config, Erase(subject))?;
    if erased.total() == 0 {
        return print("Nothing was stored about them.\n");
    }
    print(&format!(
        "Erased: {}. A lookup finds them no more.\nThe next rewrite of the database removes their bytes from the disk ('bindery retention status' says when).\nRows of the logs are deleted when they expire.\n",
        list(erased)
    ))
}

/// The kinds of which there is something, with their numbers.
fn list(Erased { bindings, sessions, invitations, tokens, consents, visits, mails }: Erased) -> String {
    let kinds = [
        (bindings, "published addresses"),
        (sessions, "validation sessions"),
        (invitations, "pending invitations"),
        (tokens, "access tokens"),
        (consents, "accepted documents"),
        (visits, "links to their own page"),
        (mails, "queued mails"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{kind} ({count})"));
    kinds.collect::<Vec<_>>().join(", ")
}
