//! `bindery suppression check`: whether the owner of an address has opted out of all messages.
//!
//! The suppression list holds keyed hashes. It can be asked about an address, but not listed.

use serde::{Deserialize, Serialize};

use super::{Command, input};
use crate::{
    domain::{threepid::Address, time::Millis},
    ops::{Core, Failure, address::suppression},
};

/// Asks whether an address is suppressed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSuppression {
    /// The address.
    #[serde(with = "input")]
    pub address: Address,
}

/// Whether an address is suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// Since when; `None` if it is not.
    pub since: Option<Millis>,
}

impl Command for CheckSuppression {
    const PATH: &'static str = "/suppression/check";

    type Answer = Suppression;

    async fn run(self, core: &Core) -> Result<Suppression, Failure> {
        Ok(Suppression { since: suppression::since(core, &self.address)? })
    }
}
