//! `bindery suppression lift`: allows messages to an address again.

use serde::{Deserialize, Serialize};

use super::{Command, Suppression, input};
use crate::{
    domain::{audit::By, threepid::Address},
    ops::{Core, Failure, address::suppression},
};

/// Takes an address off the suppression list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftSuppression {
    /// The address.
    #[serde(with = "input")]
    pub address: Address,
}

impl Command for LiftSuppression {
    const PATH: &'static str = "/suppression/lift";

    /// What was so before.
    type Answer = Suppression;

    async fn run(self, core: &Core) -> Result<Suppression, Failure> {
        let since = suppression::lift(core, self.address, By::Operator).await?;
        Ok(Suppression { since })
    }
}
