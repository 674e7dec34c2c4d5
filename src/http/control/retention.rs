//! What is held and until when, and doing a round of retention now.

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};

use crate::{
    domain::time::DAY,
    http::{State, error::ApiError},
    logs::Held,
    ops::{
        Core, Failure,
        retention::{
            self, Deleted,
            status::{self, Holding},
        },
    },
};

/// The path of a command that answers with a [`Status`].
pub const STATUS: &str = "/retention/status";
/// The path of a command that does a round and answers what it deleted.
pub const RUN: &str = "/retention/run";

/// How retention stands.
#[derive(Serialize, Deserialize)]
pub struct Status {
    /// Whether rounds rest because the clock has jumped.
    pub halted: bool,
    /// Every rule with what it holds.
    pub rules: Vec<Holding>,
}

/// How retention stands, of the database and of the logs.
///
/// # Errors
/// If the database fails, or a file of the logs cannot be read.
pub async fn status_of(core: &Core) -> Result<Status, Failure> {
    let mut rules = status::held(core).await?;
    for Held { kind, rows, oldest, .. } in core.logs.held()? {
        rules.push(Holding {
            what: format!("rows of the {} log", kind.as_str()),
            rule: format!(
                "{} from the beginning of their day",
                status::words(DAY * kind.days(&core.config.privacy))
            ),
            rows,
            oldest: oldest.map(|(day, _)| day.start()),
            goes: oldest.map(|(_, goes)| goes),
        });
    }
    Ok(Status { halted: core.retention.is_halted(), rules })
}

/// Does a round now. Whoever asks for it says that the time is right.
///
/// # Errors
/// If the database fails, or a file of the logs cannot be removed.
pub async fn run_on(core: &Core) -> Result<Deleted, Failure> {
    core.retention.resume();
    let deleted = retention::round_at_once(core).await?;
    core.logs.unlink_expired(core.clock.now())?;
    Ok(deleted)
}

pub(super) async fn status(state: Data<State>) -> Result<Json<Status>, ApiError> {
    let core = state.core.clone();
    Ok(Json(state.off_thread(async move { status_of(&core).await }).await?))
}

pub(super) async fn run(state: Data<State>) -> Result<Json<Deleted>, ApiError> {
    let core = state.core.clone();
    Ok(Json(state.off_thread(async move { run_on(&core).await }).await?))
}
