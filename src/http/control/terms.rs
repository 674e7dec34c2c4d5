//! What a configuration that is only planned would have people accept, and whom it would ask.

use actix_web::web::{Data, Json};

use crate::{
    http::{State, body::Body, error::ApiError},
    ops::privacy_notice::{self, Effect, Planned},
};

/// The path of a command that answers to a [`Planned`] with its [`Effect`].
pub const PLAN: &str = "/terms/plan";

/// Says what would come of a plan.
pub async fn plan(state: Data<State>, body: Body) -> Result<Json<Effect>, ApiError> {
    let planned = body.json::<Planned>()?;
    Ok(Json(privacy_notice::effect(&state.core, &planned).await?))
}
