//! `bindery export` and `bindery erase`: the data of one person.

use anyhow::Context;

use super::{WithConfig, control::execute, print};
use crate::{
    admin::{Erase, Export, Subject, input::Input},
    domain::shown::ascii_json,
    ops::person::erasure::Erased,
};

/// The arguments of both.
#[derive(clap::Args)]
pub struct PersonArguments {
    #[command(flatten)]
    person: SubjectArguments,
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

/// Prints everything that is stored about a person.
pub fn export(PersonArguments { person, with }: PersonArguments) -> anyhow::Result<()> {
    let document = execute(with.load()?, Export(person.parse()?))?;
    print(&format!("{}\n", ascii_json(&serde_json::to_string_pretty(&document)?)))
}

/// Erases everything that is stored about a person.
pub fn erase(PersonArguments { person, with }: PersonArguments) -> anyhow::Result<()> {
    let erased = execute(with.load()?, Erase(person.parse()?))?;
    if erased.total() == 0 {
        return print("Nothing was stored about them.\n");
    }
    let Erased { bindings, others } = erased;
    print(&format!(
        "Erased: {bindings} published addresses and {others} other entries. A lookup finds them no more.\nThe next rewrite of the database removes their bytes from the disk ('bindery retention status' says when).\nRows of the logs are deleted when they expire.\n"
    ))
}
