//! Erasure: removes everything about an address or an account in one transaction (design, P8 and P10).
//!
//! After that commit, no request can reach it. Its bytes leave the disk with the next rewrite
//! (`ops::retention`). Rows of the logs stay until they reach their age.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::audit::entry;
use crate::{
    domain::{
        association::Association,
        audit::{By, Deed, Entry, subject},
        ids::{Sid, Token, UserId},
        outbox::OutboxKey,
        secret::SecretHash,
        session::Session,
        threepid::Address,
    },
    ops::{
        Core, Failure,
        address::{owner_mail::OwnerMailQueue, withdraw::remove_association},
    },
    store::{StoreError, Tables, Transaction, Writes},
};

/// How much is erased, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// Published addresses.
    pub bindings: usize,
    /// Validation sessions.
    pub sessions: usize,
    /// Pending invitations, sent and received.
    pub invitations: usize,
    /// Access tokens.
    pub tokens: usize,
    /// Accepted documents.
    pub consents: usize,
    /// Links to the person's own page, and open pages.
    pub visits: usize,
    /// Queued mails to the owner of an address.
    pub mails: usize,
}

impl Erased {
    /// The sum.
    pub fn total(self) -> usize {
        let Self { bindings, sessions, invitations, tokens, consents, visits, mails } = self;
        bindings + sessions + invitations + tokens + consents + visits + mails
    }
}

/// Erases everything about an address, except its opt-out from messages, which is stored as a hash.
pub async fn erase_address(core: &Core, address: Address, by: By) -> Result<Erased, Failure> {
    let owner_mail = OwnerMailQueue::of(core);
    let erased = core.store.write(move |tables| {
        let found = Found::of_address(tables, &address)?;
        found.remove(tables, owner_mail, by)
    });
    Ok(erased.await?)
}

/// Erases everything about an account: what [`erase_address`] erases for each of its addresses, its access
/// tokens, consents and sessions, and the invitations that it sent.
pub async fn erase_account(core: &Core, user: UserId, by: By) -> Result<Erased, Failure> {
    let subject = subject(&core.session_key, user.as_str());
    let (entry, owner_mail) = (entry(core, by, Deed::Erasure, subject), OwnerMailQueue::of(core));
    let erased = core.store.write(move |tables| {
        let found = Found::of_account(tables, &user)?;
        let erased = found.remove(tables, owner_mail, by)?;
        tables.put_audit(&entry)?;
        Ok(erased)
    });
    Ok(erased.await?)
}

/// What [`erase_address`] would erase.
pub fn count_address(core: &Core, address: &Address) -> Result<Erased, Failure> {
    let snapshot = core.store.read();
    Ok(Found::of_address(&snapshot, address)?.count())
}

/// What [`erase_account`] would erase.
pub fn count_account(core: &Core, user: &UserId) -> Result<Erased, Failure> {
    let snapshot = core.store.read();
    Ok(Found::of_account(&snapshot, user)?.count())
}

/// The rows about a person. All of them are read before the first is removed: a row that cannot be read then undoes no
/// write of others. [`count_address`] counts the same rows.
#[derive(Default)]
struct Found {
    /// Each address of the person, with its association.
    addresses: Vec<(Address, Option<Association>)>,
    mails: Vec<OutboxKey>,
    visits: Vec<SecretHash>,
    /// By their text, because one can be about the account and about its address.
    sessions: BTreeMap<String, Sid>,
    invitations: BTreeMap<String, Token>,
    tokens: Vec<SecretHash>,
    /// The account, and how many documents it has accepted.
    consents: Option<(UserId, usize)>,
}

impl Found {
    fn of_address<T: Transaction>(tables: &Tables<T>, address: &Address) -> Result<Self, StoreError> {
        let mut found = Self::default();
        found.add_address(tables, address)?;
        Ok(found)
    }

    fn of_account<T: Transaction>(tables: &Tables<T>, user: &UserId) -> Result<Self, StoreError> {
        let mut found = Self::default();
        for association in tables.associations_of(user)? {
            found.add_address(tables, &association.address)?;
        }
        found.tokens = tables.tokens_of(user)?.iter().map(|token| token.hash).collect();
        found.consents = Some((user.clone(), tables.consents_of(user)?.len()));
        found.add_sessions(tables.sessions_of_account(user)?);
        found.add_invitations(tables.invitations_from(user)?.into_iter().map(|invitation| invitation.token));
        Ok(found)
    }

    fn add_address<T: Transaction>(
        &mut self,
        tables: &Tables<T>,
        address: &Address,
    ) -> Result<(), StoreError> {
        self.addresses.push((address.clone(), tables.association(address)?));
        self.add_invitations(tables.invitations_to(address)?);
        self.add_sessions(tables.sessions_of_address(address)?);
        self.visits.extend(tables.visits_of(address)?.into_iter().map(|(secret, _)| secret));
        let queued = OutboxKey::of_owner_mail(address, &tables.session_key()?);
        if tables.outgoing(&queued)?.is_some() {
            self.mails.push(queued);
        }
        Ok(())
    }

    fn add_sessions(&mut self, sessions: Vec<(Sid, Session)>) {
        self.sessions.extend(sessions.into_iter().map(|(sid, _)| (sid.as_str().to_owned(), sid)));
    }

    fn add_invitations(&mut self, tokens: impl IntoIterator<Item = Token>) {
        self.invitations.extend(tokens.into_iter().map(|token| (token.as_str().to_owned(), token)));
    }

    fn count(&self) -> Erased {
        Erased {
            bindings: self.addresses.iter().filter(|(_, association)| association.is_some()).count(),
            sessions: self.sessions.len(),
            invitations: self.invitations.len(),
            tokens: self.tokens.len(),
            consents: self.consents.as_ref().map_or(0, |(_, documents)| *documents),
            visits: self.visits.len(),
            mails: self.mails.len(),
        }
    }

    /// Removes the rows, and adds an entry to the audit for each address.
    fn remove(
        self,
        tables: &mut Writes<'_>,
        owner_mail: OwnerMailQueue,
        by: By,
    ) -> Result<Erased, StoreError> {
        let erased = self.count();
        // The withdrawal below queues a mail. A mail about an earlier change must not follow it.
        for queued in &self.mails {
            tables.remove_outgoing(queued)?;
        }
        for (_, association) in &self.addresses {
            if let Some(Association { user_id, address, .. }) = association {
                remove_association(tables, user_id, address, owner_mail)?;
            }
        }
        for token in self.invitations.values() {
            tables.remove_invitation(token)?;
        }
        for secret in self.visits {
            tables.remove_visit(secret)?;
        }
        for sid in self.sessions.values() {
            tables.remove_session(sid)?;
        }
        for hash in self.tokens {
            tables.remove_token(hash)?;
        }
        if let Some((user, _)) = &self.consents {
            tables.remove_consents(user)?;
        }
        let key = tables.session_key()?;
        for (address, _) in &self.addresses {
            tables.put_audit(&Entry::about(address, Deed::Erasure, by, &key, owner_mail.now()))?;
        }
        Ok(erased)
    }
}
