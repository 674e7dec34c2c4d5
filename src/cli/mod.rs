//! The operator's commands: what is typed, and which function it calls.
//!
//! Exit status: 0 for success, 1 for a failure (a part of the server that ended before its time, too), 2 for a
//! command that cannot be understood, 78 (`EX_CONFIG`) for a configuration that cannot be used. A second Ctrl-C or
//! SIGTERM aborts `serve` with 130 or 143, the statuses that a shell shows for a process that those signals ended.

mod check;
mod control;
mod demo;
mod invitations;
mod log;
mod logging;
mod people;
mod pepper;
mod retention;
mod serve;
mod signals;
mod suppression;
mod table;

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    app::SystemClock,
    config::{self, Config, ConfigError},
    domain::clock::Clock,
};

/// `EX_CONFIG` of sysexits.h: starting again will not help.
const EXIT_CONFIG: u8 = 78;

/// A Matrix identity server in one executable.
#[derive(Parser)]
#[command(name = "bindery", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server; without a configuration, for trying out, on 127.0.0.1:8090
    Serve(WithConfig),
    /// Show the whole job with made-up people, then keep serving until Ctrl-C
    Demo {
        /// End after the walk instead of serving on
        #[arg(long)]
        once: bool,
    },
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a copy of everything that is stored about somebody, as JSON
    Export {
        #[command(flatten)]
        meant: people::Meant,
        #[command(flatten)]
        with: WithConfig,
    },
    /// Erase everything that is stored about somebody
    Erase {
        #[command(flatten)]
        meant: people::Meant,
        #[command(flatten)]
        with: WithConfig,
    },
    /// Show when data was handed out or erased, and by whom
    Audit {
        #[command(flatten)]
        arguments: people::AuditArguments,
        #[command(flatten)]
        with: WithConfig,
    },
    /// See what is held and until when, and delete now what has reached its age
    #[command(subcommand)]
    Retention(RetentionCommand),
    /// Look after addresses whose owners want no messages any more
    #[command(subcommand)]
    Suppression(SuppressionCommand),
    /// Look after pending invitations, whether or not the server runs
    #[command(subcommand)]
    Invitations(InvitationsCommand),
    /// Read who looked up, and who called, whether or not the server runs
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Look after the pepper that addresses are hashed with, whether or not the server runs
    #[command(subcommand)]
    Pepper(PepperCommand),
}

#[derive(Subcommand)]
enum PepperCommand {
    /// Replace it now; hashes that somebody has collected are worthless from then on
    Rotate(WithConfig),
}

#[derive(Subcommand)]
enum InvitationsCommand {
    /// Take invitations back: one by its token, or all to an address or from a Matrix ID
    Cancel {
        #[command(flatten)]
        meant: invitations::Meant,
        #[command(flatten)]
        with: WithConfig,
    },
}

#[derive(Subcommand)]
enum RetentionCommand {
    /// Print every rule with what it holds, the oldest of it, and when that goes
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        with: WithConfig,
    },
    /// Delete now what has reached its age; says that the clock is right
    Run(WithConfig),
}

#[derive(Subcommand)]
enum SuppressionCommand {
    /// Say whether nothing is sent to an address; the list cannot be shown, since it holds hashes
    Check {
        #[command(flatten)]
        about: Addressed,
        #[command(flatten)]
        with: WithConfig,
    },
    /// Let an address be written to again, because its owner has asked you to
    Lift {
        #[command(flatten)]
        about: Addressed,
        #[command(flatten)]
        with: WithConfig,
    },
}

#[derive(clap::Args)]
struct Addressed {
    /// An e-mail address, or a telephone number with its country code
    #[arg(long)]
    address: String,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say whether the server could start with this configuration
    Check(WithConfig),
    /// Print every key with its default and what it is for
    Example,
}

#[derive(clap::Args)]
struct WithConfig {
    /// The configuration file
    #[arg(long, short, env = "BINDERY_CONFIG")]
    config: Option<PathBuf>,
}

impl WithConfig {
    /// The configuration, with everything that it names outside itself looked at.
    fn load(&self) -> Result<Config, ConfigError> {
        let wrong = |problem: String| ConfigError(vec![problem]);
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => variables.push((name, value)),
                (Ok(name), Err(_)) if name.starts_with("BINDERY_") => {
                    return Err(wrong(format!("{name} is not text in UTF-8")));
                }
                _ => {}
            }
        }
        let config = config::load(self.config.as_deref(), variables.into_iter())?;
        crate::app::check(&config).map_err(|error| wrong(format!("{error:#}")))?;
        logging::filter(&config.log).map_err(|error| wrong(format!("{error:#}")))?;
        Ok(config)
    }
}

/// Runs what was typed.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Serve(with) => with.load().map_err(Into::into).and_then(serve::serve),
        Command::Demo { once } => demo::demo(once),
        Command::Config(ConfigCommand::Check(with)) => {
            with.load().map_err(Into::into).and_then(|config| check::check(&config))
        }
        Command::Config(ConfigCommand::Example) => say(&config::example()),
        Command::Invitations(InvitationsCommand::Cancel { meant, with }) => {
            with.load().map_err(Into::into).and_then(|config| invitations::cancel(config, meant))
        }
        Command::Export { meant, with } => {
            with.load().map_err(Into::into).and_then(|config| people::export(config, meant))
        }
        Command::Erase { meant, with } => {
            with.load().map_err(Into::into).and_then(|config| people::erase(config, meant))
        }
        Command::Audit { arguments, with } => with
            .load()
            .map_err(Into::into)
            .and_then(|config| people::audit(config, SystemClock.now(), arguments)),
        Command::Retention(RetentionCommand::Status { json, with }) => {
            with.load().map_err(Into::into).and_then(|config| retention::status(config, json))
        }
        Command::Retention(RetentionCommand::Run(with)) => {
            with.load().map_err(Into::into).and_then(retention::run)
        }
        Command::Log(log) => log::show(log),
        Command::Pepper(PepperCommand::Rotate(with)) => {
            with.load().map_err(Into::into).and_then(pepper::rotate)
        }
        Command::Suppression(SuppressionCommand::Check { about, with }) => {
            with.load().map_err(Into::into).and_then(|config| suppression::check(config, about.address))
        }
        Command::Suppression(SuppressionCommand::Lift { about, with }) => {
            with.load().map_err(Into::into).and_then(|config| suppression::lift(config, about.address))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::print_error(&error);
            ExitCode::from(if error.is::<ConfigError>() { EXIT_CONFIG } else { 1 })
        }
    }
}

/// Prints to standard output.
fn say(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
