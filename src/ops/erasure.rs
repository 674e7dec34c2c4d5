//! Erasure: everything about an address or an account goes, at once and whole (design, P8 and P10).
//!
//! From the moment that the answer is there nothing of it can be reached; its bytes leave the disk with
//! the next rewrite (`ops::retention`), and rows of the logs at their age.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Core, Failure, associations, invitations, owner_notices::OwnerNotices};
use crate::{
    domain::{
        audit::{By, Deed, Entry, subject, subject_of_address},
        ids::{Sid, Token, UserId},
        outbox::OutboxKey,
        session::Session,
        threepid::Address,
        time::Millis,
    },
    store::{StoreError, Writes},
};

/// How many rows are looked at in one step.
const STEP: usize = 1024;

/// How much went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Published addresses.
    pub bindings: usize,
    /// Everything else: sessions, tokens, consents, invitations, visits.
    pub others: usize,
}

impl Erased {
    /// All of it.
    pub fn total(self) -> usize {
        self.bindings + self.others
    }
}

/// Erases everything about an address. That it is not to be written to stays known, as a hash.
///
/// # Errors
/// Only if the database fails.
pub async fn erase_address(core: &Core, address: Address, by: By) -> Result<Erased, Failure> {
    let sessions = sessions_where(core, |session| session.address == address)?;
    let subject = subject_of(core, &address);
    let (now, notices) = (core.clock.now(), OwnerNotices::of(core));
    let waiting = OutboxKey::of_notice(&address, &core.session_key);
    let erased = core.store.write(move |tables| {
        let mut erased = Erased::default();
        tables.remove_outgoing(&waiting)?;
        if let Some(association) = tables.association(&address)? {
            associations::remove(tables, &association.user_id, &address, notices)?;
            erased.bindings += 1;
        }
        erased.others += remove_sessions(tables, &sessions)?;
        for token in tables.invitations_to(&address)? {
            tables.remove_invitation(&token)?;
            erased.others += 1;
        }
        for (secret, _) in tables.visits_of(&address)? {
            tables.remove_visit(secret)?;
        }
        tables.put_audit(&Entry { at: now, deed: Deed::Erasure, by, subject: Some(subject) })?;
        Ok(erased)
    });
    let erased = erased.await?;
    core.outbox_bell.notify_one();
    Ok(erased)
}

/// Erases everything about an account: its addresses with all that [`erase_address`] erases of
/// them, its access tokens, consents and sessions, and the invitations that it sent.
///
/// # Errors
/// Only if the database fails.
pub async fn erase_account(core: &Core, user: UserId, by: By) -> Result<Erased, Failure> {
    let mut erased = Erased::default();
    loop {
        let step = erase_once(core, user.clone(), by, erased == Erased::default()).await?;
        erased.bindings += step.bindings;
        erased.others += step.others;
        // What a request wrote that was under way meanwhile; without tokens there is no other.
        if step == Erased::default() {
            return Ok(erased);
        }
    }
}

async fn erase_once(core: &Core, user: UserId, by: By, is_first: bool) -> Result<Erased, Failure> {
    let addresses: HashSet<String> = {
        let own = core.store.read().associations_of(&user)?;
        own.into_iter().map(|association| association.address.as_str().to_owned()).collect()
    };
    let sessions = sessions_where(core, |session| {
        session.account.as_ref() == Some(&user) || addresses.contains(session.address.as_str())
    })?;
    let sent = invitations::sent_by(&core.store, &user)?;
    let subject = subject(&core.session_key, user.as_str());
    let (now, notices) = (core.clock.now(), OwnerNotices::of(core));
    let erased = core.store.write(move |tables| {
        let mut erased = Erased::default();
        for association in tables.associations_of(&user)? {
            let address = &association.address;
            associations::remove(tables, &user, address, notices)?;
            erased.bindings += 1;
            for token in tables.invitations_to(address)? {
                erased.others += remove_invitation(tables, &token)?;
            }
            for (secret, _) in tables.visits_of(address)? {
                tables.remove_visit(secret)?;
            }
        }
        for token in tables.tokens_of(&user)? {
            tables.remove_token(token.hash)?;
            erased.others += 1;
        }
        erased.others += tables.remove_consents(&user)?;
        erased.others += remove_sessions(tables, &sessions)?;
        for token in &sent {
            erased.others += remove_invitation(tables, token)?;
        }
        if is_first {
            tables.put_audit(&Entry { at: now, deed: Deed::Erasure, by, subject: Some(subject) })?;
        }
        Ok(erased)
    });
    let erased = erased.await?;
    core.outbox_bell.notify_one();
    Ok(erased)
}

/// Withdraws the association of an address for its owner; whether there was one.
///
/// # Errors
/// Only if the database fails.
pub async fn withdraw(core: &Core, address: Address, by: By) -> Result<bool, Failure> {
    let subject = subject_of(core, &address);
    let (now, notices) = (core.clock.now(), OwnerNotices::of(core));
    let removed = core.store.write(move |tables| {
        let Some(association) = tables.association(&address)? else { return Ok(false) };
        associations::remove(tables, &association.user_id, &address, notices)?;
        tables.put_audit(&Entry { at: now, deed: Deed::Erasure, by, subject: Some(subject) })?;
        Ok(true)
    });
    let removed = removed.await?;
    core.outbox_bell.notify_one();
    Ok(removed)
}

/// What stands for an address in the audit.
pub fn subject_of(core: &Core, address: &Address) -> [u8; 32] {
    subject_of_address(&core.session_key, address)
}

/// The validation sessions for which `is_meant` holds.
pub(super) fn sessions_where(
    core: &Core,
    is_meant: impl Fn(&Session) -> bool,
) -> Result<Vec<(Sid, Session)>, StoreError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let batch = core.store.read().sessions_after(after.as_ref(), STEP)?;
        let Some((last, _)) = batch.last() else { return Ok(found) };
        after = Some(last.clone());
        found.extend(batch.into_iter().filter(|(_, session)| is_meant(session)));
    }
}

fn remove_sessions(tables: &mut Writes<'_>, sessions: &[(Sid, Session)]) -> Result<usize, StoreError> {
    let mut removed = 0;
    for (sid, _) in sessions {
        removed += usize::from(tables.session(sid)?.is_some());
        tables.remove_session(sid)?;
    }
    Ok(removed)
}

fn remove_invitation(tables: &mut Writes<'_>, token: &Token) -> Result<usize, StoreError> {
    let is_there = tables.invitation(token)?.is_some();
    tables.remove_invitation(token)?;
    Ok(usize::from(is_there))
}

/// Notes that data was handed out.
pub(super) async fn note_export(core: &Core, subject: [u8; 32], by: By, now: Millis) -> Result<(), Failure> {
    let entry = Entry { at: now, deed: Deed::Export, by, subject: Some(subject) };
    Ok(core.store.write(move |tables| tables.put_audit(&entry)).await?)
}
