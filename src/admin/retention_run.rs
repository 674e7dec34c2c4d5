//! `bindery retention run`: a round of retention now.

use serde::{Deserialize, Serialize};

use super::Command;
use crate::ops::{
    Core, Failure,
    retention::{self, Deleted},
};

/// Deletes what has expired. It also ends a halt of retention: by running it, the operator says that
/// the clock is right.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RunRetention;

impl Command for RunRetention {
    const PATH: &'static str = "/retention/run";

    type Answer = Deleted;

    async fn run(self, core: &Core) -> Result<Deleted, Failure> {
        core.retention.resume();
        // First: on a full disk, this makes room for the rest.
        let unlinked = core.logs.unlink_expired(core.clock.now());
        let deleted = retention::round_at_once(core).await?;
        unlinked?;
        Ok(deleted)
    }
}
