//! Unbinding: withdrawing an association (specification, Identity Service API, `/3pid/unbind`; design, P8 and
//! P10).

use super::{
    owner_mail::OwnerNotices,
    validate::{User, sessions_where, validated_session},
};
use crate::{
    domain::{
        audit::By,
        ids::{ClientSecret, Sid, UserId},
        outbox::Change,
        refusal::Refusal,
        threepid::Address,
    },
    ops::{
        Core, Failure, invitation,
        person::{
            audit::{entry, subject_of},
            erasure::remove_sessions,
        },
        signed_request::{SignedRequest, verify},
    },
    store::{StoreError, Writes},
};

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
        withdraw_association(tables, &user_id, &address, notices).map(Ok)
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
    core.store.write(move |tables| withdraw_association(tables, &user_id, &address, notices)).await?;
    core.outbox_bell.notify_one();
    Ok(())
}

/// Withdraws the association of an address for its owner, and what has proved the address; whether there
/// was one.
///
/// # Errors
/// Only if the database fails.
pub async fn withdraw_by_owner(core: &Core, address: Address, by: By) -> Result<bool, Failure> {
    let (entry, notices) = (entry(core, by, subject_of(core, &address)), OwnerNotices::of(core));
    // Whoever proved the address before would publish it again at once.
    let sessions = sessions_where(core, |session| session.address == address)?;
    let removed = core.store.write(move |tables| {
        let Some(association) = tables.association(&address)? else { return Ok(false) };
        withdraw_association(tables, &association.user_id, &address, notices)?;
        remove_sessions(tables, &sessions)?;
        tables.put_audit(&entry)?;
        Ok(true)
    });
    let removed = removed.await?;
    core.outbox_bell.notify_one();
    Ok(removed)
}

/// Removes the association of `address` if it is `user_id`'s, and has the owner told.
pub(in crate::ops) fn withdraw_association(
    tables: &mut Writes<'_>,
    user_id: &UserId,
    address: &Address,
    notices: OwnerNotices,
) -> Result<(), StoreError> {
    let found = tables.association(address)?.filter(|association| association.user_id == *user_id);
    if let (Some(association), Some(language)) = (found, tables.language_of(address)?) {
        tables.remove_association(address)?;
        invitation::keep_quiet(tables, address)?;
        notices.tell(tables, &association, Change::Unbound, language)?;
    }
    Ok(())
}
