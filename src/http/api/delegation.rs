//! Version 1 of the API as homeservers still call it: they have a telephone number validated for
//! somebody who registers with them, and publish nothing (design, P4).
//!
//! Mounted only if the operator names homeservers; there is no token, their address is what
//! admits them.

use actix_web::{HttpRequest, web::Data};
use serde_json::json;

use super::{
    Answer, json, phone,
    validation::{SubmitToken, validated},
};
use crate::{
    http::{
        State,
        body::Body,
        caller::{Caller, Delegate},
    },
    ops::address::validate::User,
};

/// `POST /api/v1/validate/msisdn/requestToken`
pub async fn request_token(
    state: Data<State>,
    _homeserver: Delegate,
    caller: Caller,
    request: HttpRequest,
    body: Body,
) -> Answer {
    phone::send_code(&state, None, caller, &request, &body).await
}

/// `POST /api/v1/validate/msisdn/submitToken`. Tries are bounded by the session: a homeserver
/// speaks for many people from one address.
pub async fn submit_token(state: Data<State>, _homeserver: Delegate, body: Body) -> Answer {
    let presented = body.json_or_form::<SubmitToken>()?.parse()?;
    presented.submit(&state, User::Homeserver).await?;
    json(json!({ "success": true }))
}

/// `GET /api/v1/3pid/getValidated3pid`
pub async fn validated_address(state: Data<State>, _homeserver: Delegate, request: HttpRequest) -> Answer {
    validated(&state, User::Homeserver, &request)
}
