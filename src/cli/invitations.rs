//! `bindery invitations`.

use anyhow::Context;

use super::{WithConfig, control::execute, print};
use crate::admin::{CancelInvitations, Cancelled, input::Input};

/// The commands about invitations.
#[derive(clap::Subcommand)]
pub enum InvitationsCommand {
    /// Cancel pending invitations: one by its token, or all to an address or from a Matrix ID
    Cancel {
        #[command(flatten)]
        which: CancelArguments,
        #[command(flatten)]
        with: WithConfig,
    },
}

/// Which invitations to cancel.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct CancelArguments {
    /// The invitation with this token
    #[arg(long)]
    token: Option<String>,
    /// Every invitation to this email address, except those stored without it because it had opted out
    #[arg(long)]
    address: Option<String>,
    /// Every invitation that this Matrix ID sent
    #[arg(long)]
    sender: Option<String>,
}

impl CancelArguments {
    fn parse(self) -> anyhow::Result<CancelInvitations> {
        Ok(match self {
            Self { token: Some(text), .. } => CancelInvitations::Token(Input::from_input(&text)?),
            Self { address: Some(text), .. } => CancelInvitations::Address(Input::from_input(&text)?),
            Self { sender, .. } => {
                let text = sender.context("give --token, --address or --sender")?;
                CancelInvitations::Sender(Input::from_input(&text)?)
            }
        })
    }
}

/// Runs one of them.
pub fn run(InvitationsCommand::Cancel { which, with }: InvitationsCommand) -> anyhow::Result<()> {
    let Cancelled { cancelled } = execute(with.load()?, which.parse()?)?;
    match cancelled {
        0 => print("No pending invitation matches, so none was cancelled.\n"),
        1 => print("One invitation was cancelled.\n"),
        many => print(&format!("{many} invitations were cancelled.\n")),
    }
}
