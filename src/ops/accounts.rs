//! Accounts: exchanging a homeserver's OpenID token for an access token of ours, and giving it
//! back (specification, Identity Service API, "Authentication").

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use super::{Core, Failure, HomeserverError, random};
use crate::{
    domain::{
        ids::{OpenIdToken, Token, UserId},
        refusal::Refusal,
        secret::SecretHash,
        server_name::ServerName,
        time::Millis,
    },
    store::{StoreError, StoredToken, Tables, Transaction},
};

/// The owner of an OpenID token, as its homeserver says.
///
/// # Errors
/// `HomeserverNotAllowed`, `HomeserverUnreachable`, or `OpenIdTokenRefused`, also if the
/// homeserver names a user of another server.
pub async fn confirm_owner(
    core: &Core,
    server: &ServerName,
    openid_token: &OpenIdToken,
) -> Result<UserId, Failure> {
    require_allowed(core, server.as_str())?;
    let owner = core.homeservers.token_owner(server, openid_token).await.map_err(|error| match error {
        HomeserverError::Refused => Refusal::OpenIdTokenRefused,
        HomeserverError::Unreachable => Refusal::HomeserverUnreachable(server.to_string()),
    })?;
    if owner.is_on(server) { Ok(owner) } else { Err(Refusal::OpenIdTokenRefused.into()) }
}

/// Gives out an access token.
///
/// # Errors
/// Only if the database fails.
pub async fn register(core: &Core, owner: UserId) -> Result<Token, Failure> {
    let token = Token::from_bytes(random());
    let (stored, now) = (token.clone(), core.clock.now());
    core.store.write(move |tables| tables.put_token(&stored, &owner, now)).await?;
    Ok(token)
}

/// Refuses homeservers that the operator's list, if there is one, does not have.
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

/// Somebody who has shown an access token that was good then. Whatever is written for them asks once
/// more, in its transaction: nothing may come back after an erasure (design, P8).
#[derive(Clone)]
pub struct Login {
    owner: UserId,
    token: SecretHash,
}

impl Login {
    /// The account.
    pub fn owner(&self) -> &UserId {
        &self.owner
    }

    /// Whether the token is still good.
    ///
    /// # Errors
    /// `UnknownToken`; the outer one if the database fails.
    pub(super) fn check<T: Transaction>(
        &self,
        tables: &Tables<T>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        Ok(if tables.has_token(self.token)? { Ok(()) } else { Err(Refusal::UnknownToken) })
    }
}

/// Finds out whose access token this is.
///
/// # Errors
/// `UnknownToken`.
pub fn authenticate(core: &Core, token: &Token) -> Result<Login, Failure> {
    let stored = core.store.read().token(SecretHash::of(token.as_str()))?.ok_or(Refusal::UnknownToken)?;
    core.used_tokens.note(&stored, core.clock.now());
    let StoredToken { owner, hash: token, .. } = stored;
    // An operator who takes a homeserver off the list means its users from now on, not from
    // their next registration on.
    if !core.config.homeservers.allow.is_empty() {
        require_allowed(core, owner.server_name())?;
    }
    Ok(Login { owner, token })
}

/// The tokens that were used today for the first time, until that is written down: an account that
/// nobody uses is forgotten some day (design, P18).
#[derive(Default)]
pub struct Uses(Mutex<HashMap<[u8; 32], Millis>>);

impl Uses {
    /// A token is used.
    fn note(&self, token: &StoredToken, now: Millis) {
        // Also if it was noted while the clock was wrong.
        if token.used.day() != now.day() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token.hash.0, now);
        }
    }

    fn take(&self) -> HashMap<[u8; 32], Millis> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes down which tokens were used, in bounded steps.
///
/// # Errors
/// If the database fails.
pub async fn note_uses(core: &Core) -> Result<(), Failure> {
    let used: Vec<_> = core.used_tokens.take().into_iter().collect();
    for step in used.chunks(1024) {
        let step = step.to_vec();
        let written = core.store.write(move |tables| {
            for (hash, now) in step {
                if let Some(token) = tables.token(SecretHash(hash))? {
                    tables.put_stored_token(&StoredToken { used: now, ..token })?;
                }
            }
            Ok(())
        });
        written.await?;
    }
    Ok(())
}

/// Makes an access token useless.
///
/// # Errors
/// `NotLoggedIn` if it was useless before.
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
