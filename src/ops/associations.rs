//! Publishing an association and taking it back (specification, Identity Service API,
//! `/3pid/bind` and `/3pid/unbind`; design, P6, P8 and P10).

use serde_json::Value;

use super::{Core, Failure, HomeserverError};
use crate::{
    domain::{
        association::Association,
        ids::{ClientSecret, Sid, UserId},
        refusal::Refusal,
        session::Session,
        signing::XMatrix,
        threepid::Address,
        time::Millis,
    },
    store::{StoreError, Writes},
};

/// Publishes that the address a session validated belongs to `user_id`.
///
/// # Errors
/// `Forbidden` for a Matrix ID that is not the account's, or a session that another account
/// started: the owner of the address was asked about that one. Then as
/// [`super::validation::validated_address`].
pub async fn bind(
    core: &Core,
    account: UserId,
    sid: Sid,
    secret: ClientSecret,
    user_id: UserId,
) -> Result<Association, Failure> {
    if user_id != account {
        return Err(Refusal::Forbidden("You can publish addresses for your own Matrix ID only").into());
    }
    let now = core.clock.now();
    let answer = core.store.write(move |tables| {
        let session = match validated_session(tables, &sid, &secret, now)? {
            Ok(session) => session,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if session.account.is_some_and(|asked_by| asked_by != account) {
            return Ok(Err(Refusal::Forbidden("Another account asked for this validation")));
        }
        let replaced = tables.association(&session.address)?.map(|association| association.ts);
        let ts = Association::next_ts(now, replaced);
        let association = Association { address: session.address, user_id: account, ts };
        tables.put_association(&association)?;
        Ok(Ok(association))
    });
    Ok(answer.await??)
}

/// Withdraws an association for the person who has validated the address.
///
/// # Errors
/// `Forbidden` if the session validated another address. Then as
/// [`super::validation::validated_address`].
pub async fn unbind_by_session(
    core: &Core,
    sid: Sid,
    secret: ClientSecret,
    user_id: UserId,
    address: Address,
) -> Result<(), Failure> {
    let now = core.clock.now();
    let answer = core.store.write(move |tables| {
        let session = match validated_session(tables, &sid, &secret, now)? {
            Ok(session) => session,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if session.address != address {
            return Ok(Err(Refusal::Forbidden("This session validated another address")));
        }
        remove(tables, &user_id, &address).map(Ok)
    });
    Ok(answer.await??)
}

/// An unbind request as a homeserver signed it.
pub struct SignedRequest {
    /// Who says so.
    pub authorization: XMatrix,
    /// The path that was requested, as it was signed.
    pub uri: String,
    /// The body.
    pub content: Value,
}

/// Withdraws an association because the homeserver of its account asks for that. If there is
/// none, or it belongs to another account, there is nothing to do, and that is a success: a
/// homeserver that deactivates an account must not fail over it.
///
/// # Errors
/// `Forbidden` if the signature is not that homeserver's, or not meant for this server;
/// `HomeserverUnreachable` if its keys cannot be fetched.
pub async fn unbind_by_homeserver(
    core: &Core,
    request: &SignedRequest,
    user_id: UserId,
    address: Address,
) -> Result<(), Failure> {
    verify(core, request, &user_id).await?;
    core.store.write(move |tables| remove(tables, &user_id, &address)).await?;
    Ok(())
}

async fn verify(core: &Core, request: &SignedRequest, user_id: &UserId) -> Result<(), Failure> {
    let authorization = &request.authorization;
    if !authorization.speaks_for(user_id) {
        return Err(Refusal::Forbidden("A homeserver can speak for its own users only").into());
    }
    let destination =
        authorization.destination.as_deref().filter(|name| core.names.iter().any(|own| own == name));
    let Some(destination) = destination else {
        return Err(Refusal::Forbidden("This request was signed for another server").into());
    };
    let keys = core.homeservers.signing_keys(&authorization.origin, &authorization.key).await;
    let keys = keys.map_err(|error| match error {
        HomeserverError::Refused => Refusal::Forbidden("The homeserver does not publish its keys"),
        HomeserverError::Unreachable => Refusal::HomeserverUnreachable(authorization.origin.to_string()),
    })?;
    // Synapse calls the member `destination_is` towards identity servers.
    let verified = keys.get(&authorization.key).is_some_and(|key| {
        ["destination_is", "destination"].into_iter().any(|member| {
            let object =
                authorization.signed_object("POST", &request.uri, (member, destination), &request.content);
            key.verifies(&object, &authorization.signature)
        })
    });
    if verified {
        Ok(())
    } else {
        Err(Refusal::Forbidden("The signature of the homeserver is not valid").into())
    }
}

fn validated_session(
    tables: &Writes<'_>,
    sid: &Sid,
    secret: &ClientSecret,
    now: Millis,
) -> Result<Result<Session, Refusal>, StoreError> {
    let Some(session) = tables.session(sid)? else { return Ok(Err(Refusal::NoValidSession)) };
    let checked = session.check_secret(secret).and_then(|()| session.validated_at(now));
    Ok(checked.map(|_| session))
}

/// Removes the association of `address` if it is `user_id`'s.
fn remove(tables: &mut Writes<'_>, user_id: &UserId, address: &Address) -> Result<(), StoreError> {
    if tables.association(address)?.is_some_and(|association| association.user_id == *user_id) {
        tables.remove_association(address)?;
    }
    Ok(())
}
