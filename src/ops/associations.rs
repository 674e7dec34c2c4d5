//! Publishing an association, which has those who invited its address told, and taking it back (specification, Identity Service API,
//! `/3pid/bind` and `/3pid/unbind`; design, P6, P8 and P10).

use serde_json::Value;

use super::{
    Core, Failure, HomeserverError, invitations,
    owner_notices::OwnerNotices,
    tokens::Authenticated,
    validation::{User, validated_session},
};
use crate::{
    domain::{
        association::Association,
        ids::{ClientSecret, Sid, UserId},
        outbox::Change,
        refusal::Refusal,
        signing::XMatrix,
        threepid::Address,
    },
    store::{StoreError, Writes},
};

/// Publishes that the address a session validated belongs to `user_id`.
///
/// # Errors
/// `Forbidden` for a Matrix ID that is not the account's, or a session that another account
/// started: the owner of the address was asked about that one; `UnknownToken`. Then as
/// [`super::validation::validated_address`].
pub async fn bind(
    core: &Core,
    account: Authenticated,
    sid: Sid,
    secret: ClientSecret,
    user_id: UserId,
) -> Result<Association, Failure> {
    if user_id != *account.user_id() {
        return Err(Refusal::Forbidden("You can publish addresses for your own Matrix ID only").into());
    }
    let (now, lifetime) = (core.clock.now(), core.config.invites.lifetime());
    let notices = OwnerNotices::of(core);
    let answer = core.store.write(move |tables| {
        if let Err(refusal) = account.check(tables)? {
            return Ok(Err(refusal));
        }
        let session = match validated_session(tables, &sid, &secret, now)? {
            Ok((session, _)) => session,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if session.account.as_ref() != Some(&user_id) {
            return Ok(Err(Refusal::Forbidden("Another account asked for this validation")));
        }
        let replaced = tables.association(&session.address)?;
        let ts = Association::next_ts(now, replaced.as_ref().map(|association| association.ts));
        let is_news = replaced.is_none_or(|association| association.user_id != user_id);
        let association = Association { address: session.address, user_id, ts };
        tables.put_association(&association, session.language)?;
        invitations::announce(tables, &association, lifetime, now)?;
        if is_news {
            notices.tell(tables, &association, Change::Bound, session.language)?;
        }
        Ok(Ok(association))
    });
    let association = answer.await??;
    core.outbox_bell.notify_one();
    Ok(association)
}

/// Withdraws an association for the person who has validated the address.
///
/// # Errors
/// `Forbidden` if the session does not prove that.
pub async fn unbind_by_session(
    core: &Core,
    sid: Sid,
    secret: ClientSecret,
    user_id: UserId,
    address: Address,
) -> Result<(), Failure> {
    let (now, notices) = (core.clock.now(), OwnerNotices::of(core));
    let answer = core.store.write(move |tables| {
        let session = match validated_session(tables, &sid, &secret, now)? {
            Ok((session, _)) => session,
            Err(refusal) => return Ok(Err(unproved(&refusal))),
        };
        if let Err(refusal) = User::Account.may_use(&session) {
            return Ok(Err(unproved(&refusal)));
        }
        if session.address != address {
            return Ok(Err(Refusal::Forbidden("This session validated another address")));
        }
        remove(tables, &user_id, &address, notices).map(Ok)
    });
    answer.await??;
    core.outbox_bell.notify_one();
    Ok(())
}

/// Failed proof is 403 here, whatever failed: callers read 400 and 404 as a server that knows no
/// unbind (specification, `/3pid/unbind`).
fn unproved(refusal: &Refusal) -> Refusal {
    Refusal::Forbidden(match refusal {
        Refusal::SessionExpired => "This validation session is over; validate the address again",
        Refusal::SessionNotValidated => "This validation session has not been completed",
        _ => "No validation session matches this sid and client_secret",
    })
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
/// `WrongDestination` if the request is meant for another server, `Forbidden` if the signature is
/// not that homeserver's, `HomeserverUnreachable` if its keys cannot be fetched.
pub async fn unbind_by_homeserver(
    core: &Core,
    request: &SignedRequest,
    user_id: UserId,
    address: Address,
) -> Result<(), Failure> {
    verify(core, request, &user_id).await?;
    let notices = OwnerNotices::of(core);
    core.store.write(move |tables| remove(tables, &user_id, &address, notices)).await?;
    core.outbox_bell.notify_one();
    Ok(())
}

async fn verify(core: &Core, request: &SignedRequest, user_id: &UserId) -> Result<(), Failure> {
    let authorization = &request.authorization;
    if !authorization.speaks_for(user_id) {
        return Err(Refusal::Forbidden("A homeserver can speak for its own users only").into());
    }
    let names = core.names.iter().map(String::as_str);
    // Older homeservers do not say whom they mean in the header; what they signed does.
    let destinations: Vec<&str> = match authorization.destination.as_deref() {
        Some(named) => names.filter(|own| *own == named).collect(),
        None => names.collect(),
    };
    if destinations.is_empty() {
        return Err(Refusal::WrongDestination.into());
    }
    let keys = core.homeservers.signing_keys(&authorization.origin, &authorization.key).await;
    let keys = keys.map_err(|error| match error {
        HomeserverError::Refused => Refusal::Forbidden("The homeserver does not publish its keys"),
        HomeserverError::Unreachable => Refusal::HomeserverUnreachable(authorization.origin.to_string()),
    })?;
    // Synapse calls the member `destination_is` towards identity servers.
    let mut forms = destinations.iter().flat_map(|name| [("destination_is", *name), ("destination", *name)]);
    let verified = keys.get(&authorization.key).is_some_and(|key| {
        forms.any(|destination| {
            let object = authorization.signed_object("POST", &request.uri, destination, &request.content);
            key.verifies(&object, &authorization.signature)
        })
    });
    if verified {
        Ok(())
    } else {
        Err(Refusal::Forbidden("The signature of the homeserver is not valid").into())
    }
}

/// Removes the association of `address` if it is `user_id`'s, and has the owner told.
pub(super) fn remove(
    tables: &mut Writes<'_>,
    user_id: &UserId,
    address: &Address,
    notices: OwnerNotices,
) -> Result<(), StoreError> {
    let found = tables.association(address)?.filter(|association| association.user_id == *user_id);
    if let (Some(association), Some(language)) = (found, tables.language_of(address)?) {
        tables.remove_association(address)?;
        invitations::keep_quiet(tables, address)?;
        notices.tell(tables, &association, Change::Unbound, language)?;
    }
    Ok(())
}
