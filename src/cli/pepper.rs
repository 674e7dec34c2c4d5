//! `bindery pepper`.

use super::{WithConfig, control::execute, print};
use crate::{admin::RotatePepper, domain::retention::PEPPER_GRACE, ops::lookup::pepper::Rotated};

/// The commands about the pepper.
#[derive(clap::Subcommand)]
pub enum PepperCommand {
    /// Replace the pepper now, which makes hashes that others have collected worthless
    Rotate(WithConfig),
}

/// Runs one of them.
pub fn run(PepperCommand::Rotate(with): PepperCommand) -> anyhow::Result<()> {
    let Rotated { addresses } = execute(with.load()?, RotatePepper)?;
    let minutes = PEPPER_GRACE.as_secs() / 60;
    print(&format!(
        "A new pepper is in use. Published addresses hashed with it: {addresses}.\nThe old pepper works for {minutes} more minutes. Apps fetch the new one by themselves.\n"
    ))
}
