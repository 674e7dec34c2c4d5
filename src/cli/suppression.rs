//! `bindery suppression`: addresses whose owners have opted out of all messages.

use super::{WithConfig, control::execute, print};
use crate::admin::{CheckSuppression, LiftSuppression, Suppression, input::Input};

/// The commands about suppressed addresses.
#[derive(clap::Subcommand)]
pub enum SuppressionCommand {
    /// Say whether an address is suppressed; the list cannot be printed, because it holds hashes
    Check(AddressArguments),
    /// Allow messages to an address again, because its owner has asked you to
    Lift(AddressArguments),
}

/// The arguments of both.
#[derive(clap::Args)]
pub struct AddressArguments {
    /// An email address, or a phone number with its country code
    #[arg(long)]
    address: String,
    #[command(flatten)]
    with: WithConfig,
}

/// Runs one of them.
pub fn run(command: SuppressionCommand) -> anyhow::Result<()> {
    match command {
        SuppressionCommand::Check(AddressArguments { address, with }) => {
            let config = with.load()?;
            let address = Input::from_input(&address)?;
            match execute(config, CheckSuppression { address })? {
                Suppression { since: Some(since) } => print(&format!(
                    "This address is suppressed since {} (UTC): Bindery sends nothing to it.\n",
                    since.utc()
                )),
                Suppression { since: None } => print("This address is not suppressed.\n"),
            }
        }
        SuppressionCommand::Lift(AddressArguments { address, with }) => {
            let config = with.load()?;
            let address = Input::from_input(&address)?;
            match execute(config, LiftSuppression { address })? {
                Suppression { since: Some(_) } => print("This address may be written to again.\n"),
                Suppression { since: None } => {
                    print("This address was not suppressed; nothing has changed.\n")
                }
            }
        }
    }
}
