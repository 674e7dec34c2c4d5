//! Invitations to people of whom only an address is known (specification, Identity Service API, "Invitation
//! storage" and "Ephemeral invitation signing"). The messages they cause are rows of the outbox, written with
//! the change.

pub mod cancel;
pub mod sign;
pub mod store;

use std::time::Duration;

use super::Core;
use crate::{
    domain::{
        association::Association,
        invitation::Invitation,
        outbox::{Kind, OutboxKey, Outgoing, Payload},
        threepid::Address,
        time::Millis,
    },
    store::{StoreError, Writes},
};

/// Queues a call to the homeserver of the association's user for each pending invitation of the address. Leaves
/// a row that is already queued unchanged: otherwise an account could force retries by binding repeatedly.
pub(in crate::ops) fn queue_onbind(
    tables: &mut Writes<'_>,
    association: &Association,
    lifetime: Duration,
    now: Millis,
) -> Result<(), StoreError> {
    for token in tables.invitations_to(&association.address)? {
        if tables.invitation(&token)?.is_some_and(|invitation| !invitation.is_expired(lifetime, now)) {
            let payload = Payload::OnBind(association.user_id.clone());
            let key = OutboxKey { kind: payload.kind(), token };
            if tables.outgoing(&key)?.is_none_or(|row| row.payload != payload) {
                tables.put_outgoing(&key, &Outgoing::new(payload, now))?;
            }
        }
    }
    Ok(())
}

/// Removes the rows that [`queue_onbind`] queued, because the association is withdrawn.
pub(in crate::ops) fn remove_onbind(tables: &mut Writes<'_>, address: &Address) -> Result<(), StoreError> {
    for token in tables.invitations_to(address)? {
        tables.remove_outgoing(&OutboxKey { kind: Kind::OnBind, token })?;
    }
    Ok(())
}

/// Whether an invitation may still be accepted.
pub(in crate::ops) fn is_pending(core: &Core, invitation: &Invitation) -> bool {
    !invitation.is_expired(core.config.invites.lifetime(), core.clock.now())
}
