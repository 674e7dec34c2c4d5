//! `bindery pepper`: what an operator does about the pepper that addresses are hashed with.

use super::{control::Data, say};
use crate::{
    config::Config,
    domain::{audit::By, retention::PEPPER_GRACE},
    http::control::ROTATE_PEPPER,
    ops::{
        Core,
        lookup::pepper::{self, Rotated},
    },
};

/// Replaces the pepper now.
pub fn rotate(config: Config) -> anyhow::Result<()> {
    let offline = async |core: &Core| Ok(pepper::rotate(core, By::Operator).await?);
    let Rotated { addresses } = Data::find(config)?.run(ROTATE_PEPPER, &(), offline)?;
    let minutes = PEPPER_GRACE.as_secs() / 60;
    say(&format!(
        "A new pepper is in use; published addresses that are found under it: {addresses}.\nThe one before works for {minutes} more minutes. Apps ask for the new one by themselves.\n"
    ))
}
