//! Unbinding: withdrawing an association (specification, Identity Service API, `/3pid/unbind`; design, P8 and
//! P10).

use super::{
    owner_mail::OwnerMailQueue,
    validate::{User, validated_session},
};
use crate::{
    domain::{
        audit::{By, Deed, Entry},
        ids::{ClientSecret, Sid, UserId},
        outbox::BindingChange,
        refusal::Refusal,
        threepid::Address,
    },
    ops::{
        Core, Failure, invitation,
        x_matrix::{SignedRequest, verify},
    },
    store::{StoreError, Writes},
};

/// Withdraws an association, for the account that validated the address and published it.
///
/// # Errors
/// `Forbidden` if the session does not prove that. Also if another account started it: the owner confirmed to
/// that account that it may publish the address, not that it may remove what others published. The owner does
/// that on their own page.
pub async fn unbind_by_session(
    core: &Core,
    sid: Sid,
    secret: ClientSecret,
    user_id: UserId,
    address: Address,
) -> Result<(), Failure> {
    let (now, owner_mail) = (core.clock.now(), OwnerMailQueue::of(core));
    core.write(move |tables| {
        let validated = validated_session(tables, &sid, &secret, now);
        let (session, _) = validated.map_err(unproved)?;
        User::Account.may_use(&session).map_err(|refusal| unproved(refusal.into()))?;
        if session.address != address {
            return Err(Refusal::Forbidden("This session validated another address").into());
        }
        if session.account.as_ref() != Some(&user_id) {
            return Err(Refusal::Forbidden(
                "A session can remove only what its own account published; the owner of the address can remove the rest on this server's page /me",
            )
            .into());
        }
        Ok(withdraw_association(tables, &user_id, &address, owner_mail, By::Account)?)
    })
    .await
}

/// Turns every refusal of the session into 403. Callers read 400 and 404 as a server that does not support
/// unbinding (specification, `/3pid/unbind`).
fn unproved(failure: Failure) -> Failure {
    let Failure::Refused(refusal) = failure else { return failure };
    let reason = match refusal {
        Refusal::SessionExpired => "This validation session has expired; validate the address again",
        Refusal::SessionNotValidated => "This validation session has not been completed",
        _ => "No validation session matches this sid and client_secret",
    };
    Refusal::Forbidden(reason).into()
}

/// Withdraws an association at the request of the account's homeserver. Succeeds if there is none, or if it
/// belongs to another account: otherwise the homeserver could not deactivate the account.
///
/// # Errors
/// `WrongDestination` if the request names another server, `Forbidden` if the signature is not that
/// homeserver's, `HomeserverUnreachable` if its keys cannot be fetched.
pub async fn unbind_by_homeserver(
    core: &Core,
    request: &SignedRequest,
    user_id: UserId,
    address: Address,
) -> Result<(), Failure> {
    verify(core, request, &user_id).await?;
    let owner_mail = OwnerMailQueue::of(core);
    let removed = core
        .store
        .write(move |tables| withdraw_association(tables, &user_id, &address, owner_mail, By::Homeserver));
    Ok(removed.await?)
}

/// Withdraws the association of an address, for its owner. Also removes the sessions that validated the
/// address, otherwise the account could bind it again at once. Returns whether there was an association.
pub async fn withdraw_by_owner(core: &Core, address: Address, by: By) -> Result<bool, Failure> {
    let owner_mail = OwnerMailQueue::of(core);
    let removed = core.store.write(move |tables| {
        let Some(association) = tables.association(&address)? else { return Ok(false) };
        withdraw_association(tables, &association.user_id, &address, owner_mail, by)?;
        for (sid, _) in tables.sessions_of_address(&address)? {
            tables.remove_session(&sid)?;
        }
        Ok(true)
    });
    Ok(removed.await?)
}

/// Withdraws the association of `address` if it belongs to `user_id`: queues the mail to its owner, and adds an
/// entry to the audit.
pub(in crate::ops) fn withdraw_association(
    tables: &mut Writes<'_>,
    user_id: &UserId,
    address: &Address,
    owner_mail: OwnerMailQueue,
    by: By,
) -> Result<(), StoreError> {
    if remove_association(tables, user_id, address, owner_mail)? {
        let key = tables.session_key()?;
        tables.put_audit(&Entry::about(address, Deed::Unbinding, by, &key, owner_mail.now()))?;
    }
    Ok(())
}

/// As [`withdraw_association`], for an erasure, which adds its own entry. Returns whether there was one.
pub(in crate::ops) fn remove_association(
    tables: &mut Writes<'_>,
    user_id: &UserId,
    address: &Address,
    owner_mail: OwnerMailQueue,
) -> Result<bool, StoreError> {
    let found = tables.association(address)?.filter(|association| association.user_id == *user_id);
    if let (Some(association), Some(language)) = (found, tables.language_of(address)?) {
        tables.remove_association(address)?;
        invitation::remove_onbind(tables, address)?;
        owner_mail.queue(tables, &association, BindingChange::Unbound, language)?;
        return Ok(true);
    }
    Ok(false)
}
