//! Mail to the owner of an e-mail address that it was published or withdrawn (`privacy.notify_owners`).
//!
//! The mail is a row of the outbox, written with the change. Whether the address opted out is checked when the mail is
//! sent.

use super::suppression::suppressed_since;
use crate::{
    domain::{
        association::Association,
        language::Language,
        outbox::{Change, Notice, OutboxKey, Outgoing, Parcel},
        threepid::{Address, Medium},
        time::Millis,
    },
    ops::Core,
    store::{StoreError, Writes},
};

/// Whether the owner of an address hears of it by mail if it is withdrawn now.
///
/// # Errors
/// Only if the database fails.
pub fn will_hear(core: &Core, address: &Address) -> Result<bool, StoreError> {
    if !OwnerMail::of(core).reach(address) {
        return Ok(false);
    }
    let tables = core.store.read();
    Ok(tables.association(address)?.is_some() && suppressed_since(&*tables, address)?.is_none())
}

/// Whether owners are told, and since when, for the closure that makes the change.
#[derive(Clone, Copy)]
pub struct OwnerMail {
    is_on: bool,
    now: Millis,
}

impl OwnerMail {
    /// As the operator wants it.
    pub fn of(core: &Core) -> Self {
        Self { is_on: core.config.privacy.notify_owners, now: core.clock.now() }
    }

    /// Whether mails can tell the owner of this address anything.
    fn reach(self, address: &Address) -> bool {
        self.is_on && address.medium() == Medium::Email
    }

    /// Queues the mail, in place of one about this address that is still queued.
    pub(in crate::ops) fn queue(
        self,
        tables: &mut Writes<'_>,
        association: &Association,
        change: Change,
        language: Language,
    ) -> Result<(), StoreError> {
        let Association { address, user_id, .. } = association.clone();
        if !self.reach(&address) {
            return Ok(());
        }
        let key = OutboxKey::of_notice(&address, &tables.session_key()?);
        let notice = Notice { address, change, user_id, language };
        tables.put_outgoing(&key, &Outgoing::new(Parcel::OwnerNotice(notice), self.now))
    }
}
