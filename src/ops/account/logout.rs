//! Logging out: revoking an access token (specification, Identity Service API, `/account/logout`).

use crate::{
    domain::{ids::Token, refusal::Refusal, secret::SecretHash},
    ops::{Core, Failure},
};

/// Revokes an access token.
///
/// # Errors
/// `NotLoggedIn` if it is not valid.
pub async fn log_out(core: &Core, token: Token) -> Result<(), Failure> {
    // Strangers with made-up tokens do not occupy the writer.
    if core.store.read().token_owner(&token)?.is_none() {
        return Err(Refusal::NotLoggedIn.into());
    }
    let answer = core.store.write(move |tables| {
        if tables.token_owner(&token)?.is_none() {
            return Ok(Err(Refusal::NotLoggedIn));
        }
        tables.remove_token(SecretHash::of(token.as_str()))?;
        Ok(Ok(()))
    });
    Ok(answer.await??)
}
