//! Queues the mail that tells the owner of an email address about a bind or an unbind
//! (`privacy.notify_owners`).
//!
//! The mail is a row of the outbox, written with the change. The outbox task checks at sending whether the
//! address opted out.

use super::suppression::suppressed_since;
use crate::{
    domain::{
        association::Association,
        language::Language,
        outbox::{BindingChange, OutboxKey, Outgoing, OwnerMail, Payload},
        threepid::{Address, Medium},
        time::Millis,
    },
    ops::Core,
    store::{StoreError, Writes},
};

/// Whether the owner of an address would get a mail about an unbind now.
pub fn will_hear(core: &Core, address: &Address) -> Result<bool, StoreError> {
    if !OwnerMailQueue::of(core).reach(address) {
        return Ok(false);
    }
    let tables = core.store.read();
    Ok(tables.association(address)?.is_some() && suppressed_since(&*tables, address)?.is_none())
}

/// Whether owners are notified, and the time, for the closure that makes the change.
#[derive(Clone, Copy)]
pub struct OwnerMailQueue {
    is_on: bool,
    now: Millis,
}

impl OwnerMailQueue {
    /// The operator's setting.
    pub fn of(core: &Core) -> Self {
        Self { is_on: core.config.privacy.notify_owners, now: core.clock.now() }
    }

    /// The time of the change.
    pub(in crate::ops) fn now(self) -> Millis {
        self.now
    }

    /// Whether the owner of this address is notified.
    fn reach(self, address: &Address) -> bool {
        self.is_on && address.medium() == Medium::Email
    }

    /// Queues the mail. It replaces an earlier one about this address that is still queued.
    pub(in crate::ops) fn queue(
        self,
        tables: &mut Writes<'_>,
        association: &Association,
        change: BindingChange,
        language: Language,
    ) -> Result<(), StoreError> {
        let Association { address, user_id, .. } = association.clone();
        if !self.reach(&address) {
            return Ok(());
        }
        let key = OutboxKey::of_owner_mail(&address, &tables.session_key()?);
        let notice = OwnerMail { address, change, user_id, language };
        tables.put_outgoing(&key, &Outgoing::new(Payload::OwnerMail(notice), self.now))
    }
}
