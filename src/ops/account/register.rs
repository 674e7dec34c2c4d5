//! Registering: exchanging a homeserver's OpenID token for an access token (specification, Identity Service
//! API, "Authentication").

use crate::{
    domain::{
        ids::{OpenIdToken, Token, UserId},
        network::Network,
        refusal::Refusal,
        server_name::ServerName,
    },
    ops::{Core, Failure, HomeserverError, busy, random},
};

/// The owner of an OpenID token, as its homeserver reports it.
///
/// # Errors
/// `HomeserverNotAllowed`, `HomeserverUnreachable`, `LimitExceeded` if too many requests to the homeserver or of
/// the caller run already, or `OpenIdTokenRefused`. The last one also if the
/// homeserver names a user of another server.
pub async fn confirm_owner(
    core: &Core,
    server: &ServerName,
    openid_token: &OpenIdToken,
    caller: Network,
) -> Result<UserId, Failure> {
    require_allowed(core, server.as_str())?;
    let owner =
        core.homeservers.token_owner(server, openid_token, caller).await.map_err(|error| match error {
            HomeserverError::Refused => Refusal::OpenIdTokenRefused,
            HomeserverError::Unreachable => Refusal::HomeserverUnreachable(server.to_string()),
            HomeserverError::Busy => busy(core),
        })?;
    if owner.is_on(server) { Ok(owner) } else { Err(Refusal::OpenIdTokenRefused.into()) }
}

/// Issues an access token.
pub async fn register(core: &Core, owner: UserId) -> Result<Token, Failure> {
    let token = Token::from_bytes(random());
    let (stored, now) = (token.clone(), core.clock.now());
    core.store.write(move |tables| tables.put_token(&stored, &owner, now)).await?;
    Ok(token)
}

/// Refuses a homeserver that is not on the operator's allowlist. An empty list allows all.
///
/// # Errors
/// `HomeserverNotAllowed`.
pub fn require_allowed(core: &Core, server: &str) -> Result<(), Refusal> {
    let allow = &core.config.homeservers.allow;
    if allow.is_empty() || allow.iter().any(|name| name == server) {
        Ok(())
    } else {
        Err(Refusal::HomeserverNotAllowed)
    }
}
