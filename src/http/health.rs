//! `GET /health` and `GET /ready`, for the operator's monitoring: on the listeners of the metrics and on the control
//! socket, never on the public ones.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::ContentType},
    web::{Data, ServiceConfig, get},
};

use super::{State, error::ApiError};
use crate::ops::monitoring;

/// Mounts both.
pub fn configure(app: &mut ServiceConfig) {
    app.route("/health", get().to(health)).route("/ready", get().to(ready));
}

/// The process answers. Nothing else is checked, so that a slow disk does not have it killed.
async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n")
}

/// 503 if a part that matters does not work. A line for each part says what is wrong.
async fn ready(state: Data<State>) -> Result<HttpResponse, ApiError> {
    let readiness = monitoring::readiness(&state.core).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string_pretty(&readiness).map_err(|_| ApiError::Internal)?;
    Ok(HttpResponse::build(status).content_type(ContentType::json()).body(body + "\n"))
}
