//! Erasure: everything about an address or an account goes, at once and whole (design, P8 and P10).
//!
//! From the moment that the answer is there nothing of it can be reached; its bytes leave the disk with
//! the next rewrite (`ops::retention`), and rows of the logs at their age.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::audit::{entry, subject_of};
use crate::{
    domain::{
        audit::{By, subject},
        ids::{Sid, Token, UserId},
        outbox::OutboxKey,
        session::Session,
        threepid::Address,
    },
    ops::{
        Core, Failure,
        address::{owner_mail::OwnerNotices, validate::sessions_where, withdraw::withdraw_association},
        invitation,
    },
    store::{StoreError, Writes},
};

/// How often it is looked whether something is left.
const MOST_STEPS: usize = 8;

/// How much went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Published addresses.
    pub bindings: usize,
    /// Everything else: sessions, tokens, consents, invitations, visits, mails that waited.
    pub others: usize,
}

impl Erased {
    fn add(&mut self, more: Self) {
        self.bindings += more.bindings;
        self.others += more.others;
    }

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
    let subject = subject_of(core, &address);
    until_nothing_is_left(|is_first| {
        let address = address.clone();
        async move {
            let sessions = sessions_where(core, |session| session.address == address)?;
            let (entry, notices) = (entry(core, by, subject), OwnerNotices::of(core));
            let erased = core.store.write(move |tables| {
                let mut erased = erase_of(tables, &address, notices, is_first)?;
                erased.others += remove_sessions(tables, &sessions)?;
                if is_first {
                    tables.put_audit(&entry)?;
                }
                Ok(erased)
            });
            let erased = erased.await?;
            core.outbox_bell.notify_one();
            Ok(erased)
        }
    })
    .await
}

/// Erases everything about an account: its addresses with all that [`erase_address`] erases of
/// them, its access tokens, consents and sessions, and the invitations that it sent.
///
/// # Errors
/// Only if the database fails.
pub async fn erase_account(core: &Core, user: UserId, by: By) -> Result<Erased, Failure> {
    let subject = subject(&core.session_key, user.as_str());
    until_nothing_is_left(|is_first| {
        let user = user.clone();
        async move {
            let own = core.store.read().associations_of(&user)?;
            let addresses: HashSet<&str> = own.iter().map(|one| one.address.as_str()).collect();
            let sessions = sessions_where(core, |session| {
                session.account.as_ref() == Some(&user) || addresses.contains(session.address.as_str())
            })?;
            let sent = invitation::sent_by(&core.store, &user)?;
            let (entry, notices) = (entry(core, by, subject), OwnerNotices::of(core));
            let erased = core.store.write(move |tables| {
                let mut erased = Erased::default();
                for association in tables.associations_of(&user)? {
                    erased.add(erase_of(tables, &association.address, notices, is_first)?);
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
                    tables.put_audit(&entry)?;
                }
                Ok(erased)
            });
            let erased = erased.await?;
            core.outbox_bell.notify_one();
            Ok(erased)
        }
    })
    .await
}

/// Repeats a step until it finds nothing any more: what a request has written that was under way.
async fn until_nothing_is_left<Step>(step: impl Fn(bool) -> Step) -> Result<Erased, Failure>
where
    Step: Future<Output = Result<Erased, Failure>>,
{
    let mut erased = step(true).await?;
    // Whoever asks again and again for something new is not waited for.
    for _ in 0..MOST_STEPS {
        match step(false).await? {
            nothing if nothing == Erased::default() => break,
            more => erased.add(more),
        }
    }
    Ok(erased)
}

/// Erases what an address leads to. Only the first time goes what waited to be said to its owner: afterwards
/// that is the farewell.
fn erase_of(
    tables: &mut Writes<'_>,
    address: &Address,
    notices: OwnerNotices,
    is_first: bool,
) -> Result<Erased, StoreError> {
    let mut erased = Erased::default();
    let waiting = OutboxKey::of_notice(address, &tables.session_key()?);
    if is_first && tables.outgoing(&waiting)?.is_some() {
        tables.remove_outgoing(&waiting)?;
        erased.others += 1;
    }
    if let Some(association) = tables.association(address)? {
        withdraw_association(tables, &association.user_id, address, notices)?;
        erased.bindings += 1;
    }
    for token in tables.invitations_to(address)? {
        erased.others += remove_invitation(tables, &token)?;
    }
    for (secret, _) in tables.visits_of(address)? {
        tables.remove_visit(secret)?;
        erased.others += 1;
    }
    Ok(erased)
}

pub(in crate::ops) fn remove_sessions(
    tables: &mut Writes<'_>,
    sessions: &[(Sid, Session)],
) -> Result<usize, StoreError> {
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
