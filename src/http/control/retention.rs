//! What is held and until when, and doing a round of retention now.

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};

use crate::{
    http::{State, error::ApiError},
    ops::{
        Core, Failure,
        holdings::{self, Holding},
        retention::{self, Deleted},
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

/// How retention stands.
///
/// # Errors
/// Only if the database fails.
pub fn status_of(core: &Core) -> Result<Status, Failure> {
    Ok(Status { halted: core.retention.is_halted(), rules: holdings::held(core)? })
}

/// Does a round now. Whoever asks for it says that the time is right.
///
/// # Errors
/// Only if the database fails.
pub async fn run_on(core: &Core) -> Result<Deleted, Failure> {
    core.retention.resume();
    retention::round_at_once(core).await
}

pub(super) async fn status(state: Data<State>) -> Result<Json<Status>, ApiError> {
    let core = state.core.clone();
    Ok(Json(state.off_thread(async move { status_of(&core) }).await?))
}

pub(super) async fn run(state: Data<State>) -> Result<Json<Deleted>, ApiError> {
    let core = state.core.clone();
    Ok(Json(state.off_thread(async move { run_on(&core).await }).await?))
}
