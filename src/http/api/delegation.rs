//! Version 1 of the API, which homeservers still call to validate the phone number of a person who registers
//! with them. They publish nothing (design, P4).
//!
//! These routes exist only if the operator names homeservers. There is no token: the homeserver's IP address
//! admits it.

use actix_web::{HttpRequest, web::Data};
use serde_json::json;

use super::{
    Answer, json, phone,
    validation::{SubmitToken, validated},
};
use crate::{
    domain::threepid::Medium,
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

/// `POST /api/v1/validate/msisdn/submitToken`
///
/// The session bounds the tries. A limit per IP address would hit many people, because one homeserver submits
/// for all of its users.
pub async fn submit_token(state: Data<State>, _homeserver: Delegate, body: Body) -> Answer {
    let presented = body.json_or_form::<SubmitToken>()?.parse(Medium::Msisdn)?;
    presented.submit(&state, User::Homeserver).await?;
    json(json!({ "success": true }))
}

/// `GET /api/v1/3pid/getValidated3pid`
pub async fn validated_address(state: Data<State>, _homeserver: Delegate, request: HttpRequest) -> Answer {
    validated(&state, User::Homeserver, &request)
}
