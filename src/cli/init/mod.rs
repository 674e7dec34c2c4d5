//! `bindery init`: asks what a server cannot know by itself, writes a configuration, and says what comes next.
//!
//! Nothing is overwritten. Run as root, it gives the files to the server's user; otherwise to whoever runs it.

mod answers;
mod file;
mod files;
mod hints;

use std::path::PathBuf;

use anyhow::ensure;

use self::{answers::Answers, files::Owner};
use super::print;
use crate::config;

/// What to write, and where. What is missing is asked on a terminal.
#[derive(clap::Args)]
pub struct InitArguments {
    /// The name of this server: the host of its public URL, like id.example.org
    #[arg(long)]
    server_name: Option<String>,
    /// The URL at which people reach it [default: https:// and the server name]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// A homeserver whose users may use it, like example.org; may be repeated
    #[arg(long = "homeserver", value_name = "NAME")]
    homeservers: Vec<String>,
    /// Users of every homeserver may use it
    #[arg(long, conflicts_with = "homeservers")]
    all_homeservers: bool,
    /// The host of the relay that takes its mail, with a port unless that is 465
    #[arg(long, value_name = "HOST[:PORT]")]
    relay: Option<String>,
    /// The user name at the relay; empty if it wants none
    #[arg(long, value_name = "NAME")]
    relay_user: Option<String>,
    /// A file whose first line is the password of that user
    #[arg(long, value_name = "FILE", requires = "relay_user")]
    relay_password_file: Option<PathBuf>,
    /// The address that mails come from
    #[arg(long, value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// The name of the person or organisation that runs it
    #[arg(long, value_name = "NAME")]
    operator_name: Option<String>,
    /// Their postal address, in one line
    #[arg(long, value_name = "TEXT")]
    operator_address: Option<String>,
    /// The email address for questions of people about their data
    #[arg(long, value_name = "ADDRESS")]
    operator_contact: Option<String>,
    /// How much it logs about lookups and callers
    #[arg(long)]
    logging: Option<Logging>,
    /// Where the configuration goes
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    output: PathBuf,
    /// Where everything is stored
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/bindery")]
    data_dir: PathBuf,
    /// The user that will run the server
    #[arg(long, value_name = "NAME", default_value = "bindery")]
    user: String,
}

/// How much the server logs about lookups and callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Logging {
    /// As long as the policy allows: an operator can find out who misused the server
    Full,
    /// A day of counted lookups, a week of callers
    Sparse,
}

/// Asks, writes, and says what comes next.
pub fn init(arguments: InitArguments) -> anyhow::Result<()> {
    let InitArguments { output, data_dir, user, .. } = &arguments;
    let (output, data_dir) = (std::path::absolute(output)?, std::path::absolute(data_dir)?);
    // Before the questions, so that nobody answers them in vain.
    ensure!(
        !output.exists(),
        "{} exists already, and init overwrites nothing: edit it, or name another file with --output",
        output.display()
    );
    let owner = Owner::of_files(user)?;
    let answers = Answers::complete(arguments)?;
    let password_file = answers.relay_password.as_ref().map(|_| output.with_file_name(files::PASSWORD_FILE));
    let text = file::configuration(&answers, &data_dir, password_file.as_deref());
    files::write(
        &files::Written { output: &output, text: &text, data_dir: &data_dir, owner: &owner },
        &answers,
    )?;
    print(&hints::after(&answers, &output, &owner))
}
