//! `bindery suppression`: addresses that nothing is sent to because their owners said so.

use super::{control::Data, say};
use crate::{
    config::Config,
    http::control::suppression::{About, CHECK, LIFT, Suppressed, allow, look},
};

/// Says whether nothing is sent to an address.
pub fn check(config: Config, address: String) -> anyhow::Result<()> {
    let about = About { address };
    let address = about.parse().map_err(anyhow::Error::msg)?;
    let offline = async move |core: &_| Ok(look(core, &address)?);
    let Suppressed { since } = Data::find(config)?.run(CHECK, &about, offline)?;
    match since {
        Some(since) => say(&format!("Nothing is sent to this address since {} (UTC).\n", since.utc())),
        None => say("This address may be written to.\n"),
    }
}

/// Lets an address be written to again.
pub fn lift(config: Config, address: String) -> anyhow::Result<()> {
    let about = About { address };
    let address = about.parse().map_err(anyhow::Error::msg)?;
    let offline = async move |core: &_| Ok(allow(core, address).await?);
    let Suppressed { since } = Data::find(config)?.run(LIFT, &about, offline)?;
    match since {
        Some(_) => say("This address may be written to again.\n"),
        None => say("This address could be written to before; nothing has changed.\n"),
    }
}
