//! `bindery pepper rotate`: replaces the pepper now.

use serde::{Deserialize, Serialize};

use super::Command;
use crate::{
    domain::audit::By,
    ops::{
        Core, Failure,
        lookup::pepper::{self, Rotated},
    },
};

/// Replaces the pepper now, whatever `lookup.pepper_rotation_days` says.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RotatePepper;

impl Command for RotatePepper {
    const PATH: &'static str = "/pepper/rotate";

    type Answer = Rotated;

    async fn run(self, core: &Core) -> Result<Rotated, Failure> {
        pepper::rotate(core, By::Operator).await
    }
}
