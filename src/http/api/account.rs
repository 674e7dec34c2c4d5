//! Registers an account, names the account of a token, and logs a token out.

use actix_web::web::Data;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, empty, json};
use crate::{
    domain::{ids::OpenIdToken, refusal::Refusal, server_name::ServerName},
    http::{
        State,
        body::{Body, parsed, required},
        caller::{Account, BearerToken, Caller},
    },
    ops::account::{logout, register},
};

#[derive(Deserialize)]
struct Register {
    access_token: Option<String>,
    token_type: Option<String>,
    matrix_server_name: Option<String>,
    expires_in: Option<serde_json::Number>,
}

/// `POST /account/register`
pub async fn register(state: Data<State>, caller: Caller, body: Body) -> Answer {
    let request: Register = body.json()?;
    let server = parsed(request.matrix_server_name, "matrix_server_name", ServerName::parse)?;
    let openid_token = parsed(request.access_token, "access_token", OpenIdToken::parse)?;
    let token_type = required(request.token_type, "token_type")?;
    required(request.expires_in, "expires_in")?;
    if token_type != "Bearer" {
        return Err(Refusal::InvalidParam("token_type must be 'Bearer'".to_owned()).into());
    }
    register::require_allowed(&state.core, server.as_str())?;
    state.core.limits.register(caller.network(), state.core.clock.now())?;
    let here = state.clone().into_inner();
    let registered = async move {
        let owner = register::confirm_owner(&here.core, &server, &openid_token, caller.network()).await?;
        here.core.limits.registered(&server, here.core.clock.now())?;
        register::register(&here.core, owner).await
    };
    let token = state.off_thread(registered).await?;
    // Older clients read `access_token`.
    json(json!({ "token": token.as_str(), "access_token": token.as_str() }))
}

/// `GET /account`
pub async fn account(account: Account) -> Answer {
    json(json!({ "user_id": account.0.user_id().as_str() }))
}

/// `POST /account/logout`
pub async fn logout(state: Data<State>, token: BearerToken) -> Answer {
    logout::log_out(&state.core, token.0).await?;
    empty()
}
