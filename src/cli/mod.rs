//! The command line: reads arguments, runs the command, prints its answer.
//!
//! Each file has the arguments of its command beside its output. What the operator's commands do is
//! in `admin`.
//!
//! Exit status: 0 for success, 1 for a failure (also if a part of the server ended by itself), 2 for arguments
//! that cannot be parsed or followed, 78 (`EX_CONFIG`) for an unusable configuration. A second Ctrl-C or SIGTERM ends `serve`
//! with 130 or 143, the statuses that a shell shows for a process that those signals ended.

mod audit;
mod backup;
mod check;
mod control;
#[cfg(feature = "demo")]
mod demo;
mod health;
#[cfg(feature = "import")]
mod import;
mod init;
mod invitations;
mod log;
mod log_line;
mod logging;
mod manual;
mod pepper;
mod person;
mod restore;
mod retention;
mod serve;
mod signals;
mod status;
mod summing;
mod suppression;
mod table;
mod version;

use std::{
    ffi::OsString,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::config::{self, Config, ConfigError};

/// `EX_CONFIG` of sysexits.h: the service manager need not restart the server.
const EXIT_CONFIG: u8 = 78;

/// Clap uses it for a command line that cannot be parsed.
const EXIT_USAGE: u8 = 2;

/// A Matrix identity server in one executable.
#[derive(Parser)]
#[command(name = "bindery", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    _with: WithConfig,
    #[command(subcommand)]
    command: TopCommand,
}

#[derive(Subcommand)]
enum TopCommand {
    /// Run the server; without a configuration it listens on 127.0.0.1:8090, for a try
    Serve {
        #[command(flatten)]
        with: WithConfig,
        /// Begin with an empty database and new keys, although there are logs of an earlier one
        #[arg(long)]
        new: bool,
    },
    /// Show what Bindery does with made-up people, then keep serving until Ctrl-C
    #[cfg(feature = "demo")]
    Demo {
        /// Exit after the last step
        #[arg(long)]
        once: bool,
    },
    /// Write a configuration: asks for what a server cannot know by itself
    Init(Box<init::InitArguments>),
    /// Check the configuration, or print an example
    #[command(subcommand)]
    Config(check::ConfigCommand),
    /// Show the running server on one screen
    Status(status::StatusArguments),
    /// Say whether the running server is ready, for the health checks of containers
    Health(WithConfig),
    /// Print everything that is stored about a person, as JSON
    Export(person::PersonArguments),
    /// Erase everything that is stored about a person
    Erase(person::EraseArguments),
    /// Show when data was exported or erased, and by whom
    Audit(audit::AuditArguments),
    /// Make a backup beside the running server or without one, or check one
    Backup(backup::BackupArguments),
    /// Put a backup in the place of the database
    Restore(restore::RestoreArguments),
    /// Show how long data is kept, or delete now what has expired
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// Check or lift the suppression of an address whose owner wants no messages
    #[command(subcommand)]
    Suppression(suppression::SuppressionCommand),
    /// Cancel pending invitations
    #[command(subcommand)]
    Invitations(invitations::InvitationsCommand),
    /// Read the logs of lookups and callers
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Replace the pepper that addresses are hashed with
    #[command(subcommand)]
    Pepper(pepper::PepperCommand),
    /// Print the script with which a shell completes arguments
    Completions(manual::CompletionsArguments),
    /// Write the manual pages, for packages
    Man(manual::ManArguments),
    /// Print the version
    Version(version::VersionArguments),
    /// Take over the data of another identity server
    #[cfg(feature = "import")]
    #[command(subcommand)]
    Import(import::ImportCommand),
}

#[derive(clap::Args)]
struct WithConfig {
    /// The configuration file, also before the command; /etc/bindery/bindery.toml if it is there
    // A global argument: clap puts the value from before the command here, too.
    #[arg(long, short, env = "BINDERY_CONFIG", global = true, value_name = "FILE")]
    config: Option<OsString>,
}

impl WithConfig {
    /// Loads the configuration.
    fn load(&self) -> Result<Config, ConfigError> {
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => variables.push((name, value)),
                (Ok(name), Err(_)) if name.starts_with("BINDERY_") => {
                    return Err(ConfigError(vec![format!("{name} is not valid UTF-8")]));
                }
                _ => {}
            }
        }
        config::load(config::choose_file(self.config.as_deref()).as_deref(), variables.into_iter())
    }

    /// Loads the configuration, and reads the templates, certificates and passwords that it names.
    /// Only a server needs them.
    fn load_for_server(&self) -> Result<Config, ConfigError> {
        let config = self.load()?;
        let checked = crate::app::check(&config).and_then(|()| logging::filter(&config.log).map(|_| ()));
        checked.map_err(|error| ConfigError(vec![format!("{}: {error:#}", config.source)]))?;
        Ok(config)
    }
}

/// Runs the command in the arguments of this process.
pub fn run() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            logging::print_error(&error);
            let is_usage = error.is::<UsageError>();
            ExitCode::from(if error.is::<ConfigError>() {
                EXIT_CONFIG
            } else if is_usage {
                EXIT_USAGE
            } else {
                1
            })
        }
    }
}

fn execute(command: TopCommand) -> anyhow::Result<()> {
    match command {
        TopCommand::Serve { with, new } => serve::serve(&with, new),
        #[cfg(feature = "demo")]
        TopCommand::Demo { once } => demo::demo(once),
        TopCommand::Init(arguments) => init::init(*arguments),
        TopCommand::Config(command) => check::run(command),
        TopCommand::Status(arguments) => status::status(arguments),
        TopCommand::Health(with) => health::health(&with.load()?),
        TopCommand::Export(arguments) => person::export(arguments),
        TopCommand::Erase(arguments) => person::erase(arguments),
        TopCommand::Audit(arguments) => audit::audit(arguments),
        TopCommand::Backup(arguments) => backup::backup(arguments),
        TopCommand::Restore(arguments) => restore::restore(arguments),
        TopCommand::Retention(command) => retention::run(command),
        TopCommand::Suppression(command) => suppression::run(command),
        TopCommand::Invitations(command) => invitations::run(command),
        TopCommand::Log(command) => log::run(&command),
        TopCommand::Pepper(command) => pepper::run(command),
        TopCommand::Completions(arguments) => manual::completions(arguments),
        TopCommand::Man(arguments) => manual::man(arguments),
        TopCommand::Version(arguments) => version::version(&arguments),
        #[cfg(feature = "import")]
        TopCommand::Import(command) => import::run(command),
    }
}

/// A command line that can be parsed and cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(&'static str);

/// The reader of standard output has gone away, as `head` and pagers do. It has all that it wants.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
struct OutputClosed;

/// Writes to standard output.
fn print(text: &str) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        outcome => Ok(outcome?),
    }
}
