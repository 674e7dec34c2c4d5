//! What an operator does about addresses that nothing is sent to. The list holds hashes, so it can be
//! asked about an address that is known, and cannot be shown.

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};

use super::typed_address;
use crate::{
    domain::{audit::By, refusal::Refusal, threepid::Address, time::Millis},
    http::{State, body::Body, error::ApiError},
    ops::{Core, Failure, address::suppression},
};

/// The path that says whether nothing is sent to an address: an [`About`], answered with a
/// [`Suppressed`].
pub const CHECK: &str = "/suppression/check";
/// The path that lets an address be written to again: an [`About`], answered with a [`Suppressed`] as
/// it was before.
pub const LIFT: &str = "/suppression/lift";

/// Which address is meant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// An e-mail address or a telephone number, as it was typed.
    pub address: String,
}

/// Since when nothing is sent to an address, if that is so.
#[derive(Debug, Serialize, Deserialize)]
pub struct Suppressed {
    /// Since when.
    pub since: Option<Millis>,
}

impl About {
    /// The address.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(&self) -> Result<Address, String> {
        typed_address(&self.address)
    }
}

/// Says whether nothing is sent to an address.
///
/// # Errors
/// Only if the database fails.
pub fn look(core: &Core, address: &Address) -> Result<Suppressed, Failure> {
    Ok(Suppressed { since: suppression::since(core, address)? })
}

/// Lets an address be written to again.
///
/// # Errors
/// Only if the database fails.
pub async fn allow(core: &Core, address: Address) -> Result<Suppressed, Failure> {
    let since = suppression::lift(core, address, By::Operator).await?;
    Ok(Suppressed { since })
}

pub(super) async fn check(state: Data<State>, body: Body) -> Result<Json<Suppressed>, ApiError> {
    let address = body.json::<About>()?.parse().map_err(Refusal::InvalidParam)?;
    Ok(Json(look(&state.core, &address)?))
}

pub(super) async fn lift(state: Data<State>, body: Body) -> Result<Json<Suppressed>, ApiError> {
    let address = body.json::<About>()?.parse().map_err(Refusal::InvalidParam)?;
    Ok(Json(allow(&state.core, address).await?))
}
