//! What a changed configuration would ask people to accept, and how many accounts it would ask:
//! `bindery config check` shows it.

use serde::{Deserialize, Serialize};

use super::Command;
use crate::ops::{
    Core, Failure,
    privacy_notice::{self, Effect, Planned},
};

/// Compares the terms of a configuration with what accounts have accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanTerms(pub Planned);

impl Command for PlanTerms {
    const PATH: &'static str = "/terms/plan";

    type Answer = Effect;

    async fn run(self, core: &Core) -> Result<Effect, Failure> {
        privacy_notice::effect(core, &self.0).await
    }
}
