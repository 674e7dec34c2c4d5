//! `bindery man` and `bindery completions`: what a package installs beside the executable.

use std::{io::stdout, path::PathBuf};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, print};
use crate::domain::file_error::with_path;

/// Where the manual pages go.
#[derive(clap::Args)]
pub struct ManArguments {
    /// An existing directory; without one, the page of bindery itself goes to standard output
    directory: Option<PathBuf>,
}

/// Which shell completes arguments.
#[derive(clap::Args)]
pub struct CompletionsArguments {
    shell: Shell,
}

/// Writes the manual pages of all commands.
pub fn man(arguments: ManArguments) -> anyhow::Result<()> {
    match arguments.directory {
        Some(directory) => clap_mangen::generate_to(Arguments::command(), &directory)
            .map_err(with_path(&directory))
            .context("cannot write the manual pages"),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
            print(&String::from_utf8_lossy(&page))
        }
    }
}

/// Prints the script with which a shell completes arguments.
pub fn completions(arguments: CompletionsArguments) -> anyhow::Result<()> {
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "bindery", &mut stdout());
    Ok(())
}
