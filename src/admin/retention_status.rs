//! `bindery retention status`: how much each rule of retention holds, and when the oldest expires.

use serde::{Deserialize, Serialize};

use super::Command;
use crate::{
    domain::time::DAY,
    logs::Held,
    ops::{
        Core, Failure,
        retention::status::{self, RuleStatus},
    },
};

/// Asks for the [`RetentionStatus`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetRetentionStatus;

/// What every rule holds, in the database and in the logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionStatus {
    /// Whether retention is halted because the clock has jumped.
    pub halted: bool,
    /// Every rule.
    pub rules: Vec<RuleStatus>,
}

impl Command for GetRetentionStatus {
    const PATH: &'static str = "/retention/status";

    type Answer = RetentionStatus;

    async fn run(self, core: &Core) -> Result<RetentionStatus, Failure> {
        let mut rules = status::statuses(core).await?;
        for Held { kind, rows, oldest, .. } in core.logs.held()? {
            let period = status::words(DAY * kind.days(&core.config.privacy));
            rules.push(RuleStatus {
                what: format!("rows of the {} log", kind.as_str()),
                rule: format!("{period} from the beginning of their day"),
                rows,
                oldest: oldest.map(|(day, _)| day.start()),
                goes: oldest.map(|(_, goes)| goes),
            });
        }
        Ok(RetentionStatus { halted: core.retention.is_halted(), rules })
    }
}
