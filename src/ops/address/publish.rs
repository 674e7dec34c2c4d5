//! Binding: publishing that an address leads to a Matrix ID (specification, Identity Service API, `/3pid/bind`;
//! design, P6). A bind also queues the pending invitations of the address.

use super::{owner_mail::OwnerNotices, validate::validated_session};
use crate::{
    domain::{
        association::Association,
        ids::{ClientSecret, Sid, UserId},
        outbox::Change,
        refusal::Refusal,
    },
    ops::{Core, Failure, account::tokens::Authenticated, invitation},
};

/// Publishes that the address a session validated belongs to `user_id`.
///
/// # Errors
/// `Forbidden` for a Matrix ID that is not the account's, or a session that another account
/// started: the owner of the address was asked about that one; `UnknownToken`. Then as
/// [`super::validate::validated_address`].
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
        invitation::announce(tables, &association, lifetime, now)?;
        if is_news {
            notices.tell(tables, &association, Change::Bound, session.language)?;
        }
        Ok(Ok(association))
    });
    let association = answer.await??;
    core.outbox_bell.notify_one();
    Ok(association)
}
