//! Erasure: removes everything about an address or an account in one transaction (design, P8 and P10).
//!
//! After that commit, no request can reach it. Its bytes leave the disk with the next rewrite
//! (`ops::retention`). Rows of the logs stay until they reach their age.

use serde::{Deserialize, Serialize};

use super::audit::entry;
use crate::{
    domain::{
        audit::{By, Deed, Entry, subject},
        ids::{Sid, Token, UserId},
        outbox::OutboxKey,
        session::Session,
        threepid::Address,
    },
    ops::{
        Core, Failure,
        address::{owner_mail::OwnerMailQueue, withdraw::remove_association},
    },
    store::{StoreError, Writes},
};

/// How much was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Published addresses.
    pub bindings: usize,
    /// Everything else: sessions, tokens, consents, invitations, visits, queued mails.
    pub others: usize,
}

impl Erased {
    /// The sum.
    pub fn total(self) -> usize {
        self.bindings + self.others
    }
}

/// Erases everything about an address, except its opt-out from messages, which is stored as a hash.
pub async fn erase_address(core: &Core, address: Address, by: By) -> Result<Erased, Failure> {
    let owner_mail = OwnerMailQueue::of(core);
    let erased = core.store.write(move |tables| {
        let mut erased = Erased::default();
        erase_of_address(tables, &address, owner_mail, by, &mut erased)?;
        Ok(erased)
    });
    Ok(erased.await?)
}

/// Erases everything about an account: what [`erase_address`] erases for each of its addresses, its access
/// tokens, consents and sessions, and the invitations that it sent.
pub async fn erase_account(core: &Core, user: UserId, by: By) -> Result<Erased, Failure> {
    let subject = subject(&core.session_key, user.as_str());
    let (entry, owner_mail) = (entry(core, by, Deed::Erasure, subject), OwnerMailQueue::of(core));
    let erased = core.store.write(move |tables| {
        let mut erased = Erased::default();
        for association in tables.associations_of(&user)? {
            erase_of_address(tables, &association.address, owner_mail, by, &mut erased)?;
        }
        for token in tables.tokens_of(&user)? {
            erased.others += usize::from(tables.remove_token(token.hash)?);
        }
        erased.others += tables.remove_consents(&user)?;
        erased.others += remove_sessions(tables, tables.sessions_of_account(&user)?)?;
        let sent = tables.invitations_from(&user)?;
        erased.others += remove_invitations(tables, sent.iter().map(|invitation| &invitation.token))?;
        tables.put_audit(&entry)?;
        Ok(erased)
    });
    Ok(erased.await?)
}

/// Erases everything that is stored under an address, and adds an entry to the audit.
fn erase_of_address(
    tables: &mut Writes<'_>,
    address: &Address,
    owner_mail: OwnerMailQueue,
    by: By,
    erased: &mut Erased,
) -> Result<(), StoreError> {
    // All reads come first: a row that cannot be read then undoes no write of others.
    let association = tables.association(address)?;
    let invitations = tables.invitations_to(address)?;
    let visits = tables.visits_of(address)?;
    let sessions = tables.sessions_of_address(address)?;
    // The withdrawal below queues a mail. A mail about an earlier change must not follow it.
    let queued = OutboxKey::of_owner_mail(address, &tables.session_key()?);
    erased.others += usize::from(tables.remove_outgoing(&queued)?);
    if let Some(association) = association {
        remove_association(tables, &association.user_id, address, owner_mail)?;
        erased.bindings += 1;
    }
    erased.others += remove_invitations(tables, &invitations)?;
    for (secret, _) in visits {
        erased.others += usize::from(tables.remove_visit(secret)?);
    }
    erased.others += remove_sessions(tables, sessions)?;
    let key = tables.session_key()?;
    tables.put_audit(&Entry::about(address, Deed::Erasure, by, &key, owner_mail.now()))
}

fn remove_sessions(tables: &mut Writes<'_>, sessions: Vec<(Sid, Session)>) -> Result<usize, StoreError> {
    let mut removed = 0;
    for (sid, _) in sessions {
        removed += usize::from(tables.remove_session(&sid)?);
    }
    Ok(removed)
}

fn remove_invitations<'a>(
    tables: &mut Writes<'_>,
    tokens: impl IntoIterator<Item = &'a Token>,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    for token in tokens {
        removed += usize::from(tables.remove_invitation(token)?);
    }
    Ok(removed)
}
