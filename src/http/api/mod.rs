//! The handlers and wire types of the Matrix Identity Service API.

pub mod account;
pub mod association;
pub mod delegation;
pub mod invitation;
pub mod lookup;
pub mod phone;
pub mod pubkey;
pub mod rights;
pub mod status;
pub mod terms;
pub mod validation;

use actix_web::HttpResponse;
use serde::Serialize;

use super::error::ApiError;

type Answer = Result<HttpResponse, ApiError>;

fn json(body: impl Serialize) -> Answer {
    Ok(HttpResponse::Ok().json(body))
}

fn empty() -> Answer {
    json(serde_json::json!({}))
}
