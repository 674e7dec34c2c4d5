//! `bindery invitations`: what an operator does about pending invitations.

use anyhow::Context;

use super::{control::Data, say};
use crate::{
    config::Config,
    http::control::{CANCEL_INVITATIONS, CancelInvitations, Cancelled},
    ops::{Core, invitation::cancel},
};

/// What is typed to say which invitations are meant.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Meant {
    /// The invitation with this token
    #[arg(long)]
    token: Option<String>,
    /// Every invitation to this e-mail address
    #[arg(long)]
    address: Option<String>,
    /// Every invitation that this Matrix ID sent
    #[arg(long)]
    sender: Option<String>,
}

/// Takes invitations back: nobody can take them up any more, and all that was stored is gone.
pub fn cancel(config: Config, meant: Meant) -> anyhow::Result<()> {
    let meant = None
        .or(meant.token.map(CancelInvitations::Token))
        .or(meant.address.map(CancelInvitations::Address))
        .or(meant.sender.map(CancelInvitations::Sender))
        .context("say which: --token, --address or --sender")?;
    // Before anything else, so that a slip of the pen says the same whether or not a server runs.
    let which = meant.parse().map_err(anyhow::Error::msg)?;
    let offline = async move |core: &Core| Ok(Cancelled { cancelled: cancel::cancel(core, which).await? });
    let Cancelled { cancelled } = Data::find(config)?.run(CANCEL_INVITATIONS, &meant, offline)?;
    match cancelled {
        0 => say("There was no such pending invitation.\n"),
        1 => say("One invitation was cancelled.\n"),
        many => say(&format!("{many} invitations were cancelled.\n")),
    }
}
