//! Binding: publishing that an address belongs to a Matrix ID (specification, Identity Service API,
//! `/3pid/bind`; design, P6). A bind also queues the pending invitations of the address.

use super::{owner_mail::OwnerMailQueue, validate::validated_session};
use crate::{
    domain::{
        association::Association,
        audit::{By, Deed, Entry},
        ids::{ClientSecret, Sid, UserId},
        outbox::BindingChange,
        refusal::Refusal,
    },
    ops::{Core, Failure, account::tokens::Authenticated, invitation},
};

/// Binds the address of a validated session to `user_id`.
///
/// # Errors
/// `Forbidden` if the Matrix ID is not the account's, or if another account started the session: the owner
/// agreed to that account only. `UnknownToken`. Also the refusals of [`super::validate::validated_address`].
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
    let owner_mail = OwnerMailQueue::of(core);
    core.write(move |tables| {
        account.check(tables)?;
        let (session, _) = validated_session(tables, &sid, &secret, now)?;
        if session.account.as_ref() != Some(&user_id) {
            return Err(Refusal::Forbidden("Another account asked for this validation").into());
        }
        let replaced = tables.association(&session.address)?;
        let ts = Association::next_ts(now, replaced.as_ref().map(|association| association.ts));
        let replaces_another = replaced.as_ref().is_some_and(|association| association.user_id != user_id);
        let is_new = replaced.is_none() || replaces_another;
        let association = Association { address: session.address, user_id, ts };
        tables.put_association(&association, session.language)?;
        invitation::queue_onbind(tables, &association, lifetime, now)?;
        if replaces_another {
            let key = tables.session_key()?;
            tables.put_audit(&Entry::about(
                &association.address,
                Deed::Replacement,
                By::Account,
                &key,
                now,
            ))?;
        }
        if is_new {
            owner_mail.queue(tables, &association, BindingChange::Bound, session.language)?;
        }
        Ok(association)
    })
    .await
}
