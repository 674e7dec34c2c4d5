//! Logging out: revoking an access token (specification, Identity Service API, `/account/logout`).

use crate::{
    domain::{ids::Token, refusal::Refusal, secret::SecretHash},
    ops::{Core, Failure},
    store::Writes,
};

/// Revokes an access token.
///
/// # Errors
/// `NotLoggedIn` if it is not valid.
pub async fn log_out(core: &Core, token: Token) -> Result<(), Failure> {
    // Check first, so that requests with invented tokens do not load the writer.
    if core.store.read().token_owner(&token)?.is_none() {
        return Err(Refusal::NotLoggedIn.into());
    }
    let revoke = move |tables: &mut Writes<'_>| {
        let was_valid = tables.remove_token(SecretHash::of(token.as_str()))?;
        if was_valid { Ok(()) } else { Err(Refusal::NotLoggedIn.into()) }
    };
    core.write(revoke).await
}
