//! Restores a backup: refuses one that is too old, removes again what the replaced database knows was removed since,
//! and queues again the calls to homeservers that a backup does not carry.
//!
//! An entry of the replaced database's audit that the backup lacks is about something that happened after the backup
//! was made. So it holds for every row of the backup.

use std::collections::HashSet;

use crate::{
    config::Config,
    domain::{
        association::Association,
        audit::{Deed, Entry, earlier_subject_of_address, subject, subject_of_address},
        ids::{Token, UserId},
        invitation::Invitation,
        refusal::Refusal,
        secret::{Key32, SecretHash},
        threepid::{Address, Medium},
        time::Millis,
    },
    ops::{Failure, invitation::queue_onbind},
    store::{OldDatabase, Scan, Store, StoreError, Writes, backup::Contents},
};

/// How many rows one step reads or writes.
const RESTORE_BATCH: usize = 1024;

/// What a restore did beside copying rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Published addresses that were removed since the backup.
    pub unbound: usize,
    /// Invitations that were removed since.
    pub invitations: usize,
    /// Access tokens that were revoked since.
    pub tokens: usize,
    /// Accounts whose consents were erased since.
    pub consents: usize,
    /// Addresses that opted out since.
    pub opted_out: usize,
    /// Calls to homeservers that are queued again.
    pub queued: usize,
}

/// Refuses a backup that must not be restored on this server.
///
/// # Errors
/// What is wrong, and what to do.
pub fn require_restorable(config: &Config, contents: &Contents, now: Millis) -> Result<(), Refusal> {
    let Contents { server_name, made, .. } = contents;
    let days = config.privacy.deleted_binding_days;
    if *server_name != config.server_name {
        return Err(refused(format!(
            "the backup is of {server_name}, and server_name is {}: use a backup of this server, or the configuration that belongs to the backup",
            config.server_name
        )));
    }
    if made.is_ahead_of(now) {
        return Err(refused(format!(
            "the backup was made at {} UTC, which is in the future: set the clock of this machine, it says {} UTC",
            made.utc(),
            now.utc()
        )));
    }
    if now >= made.after(config.privacy.deleted_binding()) {
        return Err(refused(format!(
            "the backup was made at {} UTC, more than {days} days ago: data that people have removed since would come back, and the privacy notice promises that it is gone after privacy.deleted_binding_days ({days}). Use a later backup, or begin with an empty database: bindery serve --new",
            made.utc()
        )));
    }
    Ok(())
}

fn refused(problem: String) -> Refusal {
    Refusal::InvalidParam(problem)
}

/// What the replaced database knows of removals that the backup does not know of.
struct Removals<'a> {
    old: &'a OldDatabase,
    key: Key32,
    /// The entries of its audit that the backup lacks.
    entries: Vec<Entry>,
    /// The subjects of erasures.
    erased: HashSet<[u8; 32]>,
    /// The subjects of unbindings, replacements and erasures.
    unbound: HashSet<[u8; 32]>,
    /// The subjects of cancelled invitations.
    cancelled: HashSet<[u8; 32]>,
}

impl<'a> Removals<'a> {
    fn since(restored: &Store, old: &'a OldDatabase) -> Result<Self, StoreError> {
        let tables = restored.read();
        let mut entries = Vec::new();
        for (number, entry) in &old.audit {
            // An earlier restore may have given the entry another number.
            let is_known = match &entry.subject {
                Some(subject) => tables.audit_about(subject)?.contains(entry),
                None => tables.audit_entry(*number)?.as_ref() == Some(entry),
            };
            if !is_known {
                entries.push(*entry);
            }
        }
        let subjects = |deeds: &[Deed]| {
            let meant = entries.iter().filter(|entry| deeds.contains(&entry.deed));
            meant.filter_map(|entry| entry.subject).collect::<HashSet<_>>()
        };
        let erased = subjects(&[Deed::Erasure]);
        let unbound = subjects(&[Deed::Erasure, Deed::Unbinding, Deed::Replacement]);
        let cancelled = subjects(&[Deed::InvitationCancelled]);
        Ok(Self { old, key: tables.session_key()?, entries, erased, unbound, cancelled })
    }

    fn names_address(&self, subjects: &HashSet<[u8; 32]>, address: &Address) -> bool {
        // An empty set is common, and a hash takes a microsecond.
        !subjects.is_empty()
            && [subject_of_address(&self.key, address), earlier_subject_of_address(&self.key, address)]
                .iter()
                .any(|subject| subjects.contains(subject))
    }

    fn has_erased(&self, user: &UserId) -> bool {
        !self.erased.is_empty() && self.erased.contains(&subject(&self.key, user.as_str()))
    }

    fn has_unbound(&self, association: &Association) -> bool {
        self.names_address(&self.unbound, &association.address) || self.has_erased(&association.user_id)
    }

    fn has_removed(&self, invitation: &Invitation) -> Result<bool, StoreError> {
        if self.has_erased(&invitation.sender) {
            return Ok(true);
        }
        // The audit has a cancelled invitation under its address, or under its token if it has none.
        let by_token = Address::kept(Medium::Email, invitation.token.as_str());
        let address = invitation.invited.address().unwrap_or(&by_token);
        if self.names_address(&self.erased, address) {
            return Ok(true);
        }
        // Others to the same address may not be cancelled.
        let is_cancelled = self.names_address(&self.cancelled, address);
        Ok(is_cancelled && !self.old.has_invitation(&invitation.token)?)
    }
}

/// Whether both databases have the same keys. Another one, begun anew for example, tells of no removal in this one.
pub fn is_same_database(restored: &Store, old: &OldDatabase) -> Result<bool, StoreError> {
    Ok(restored.read().session_key()? == old.session_key)
}

/// Makes the restored database what the server may serve. `old` are the databases that know of removals, such as the
/// replaced one. Each must be [the same](is_same_database).
pub async fn finish(
    store: &Store,
    old: &[&OldDatabase],
    config: &Config,
    now: Millis,
) -> Result<Restored, Failure> {
    let mut restored = Restored::default();
    let begin = move |tables: &mut Writes<'_>| {
        tables.forget_backup()?;
        // The removals below date the bytes that they leave by this.
        tables.put_round(now)
    };
    store.write(begin).await?;
    for old in old {
        let removals = Removals::since(store, old)?;
        restored.unbound += remove_bindings(store, &removals).await?;
        restored.invitations += remove_invitations(store, &removals).await?;
        restored.tokens += remove_tokens(store, &removals).await?;
        restored.consents += remove_consents(store, &removals).await?;
        restored.opted_out += opt_out(store, old).await?;
        for batch in removals.entries.chunks(RESTORE_BATCH) {
            let batch = batch.to_vec();
            store.write(move |tables| batch.iter().try_for_each(|entry| tables.put_audit(entry))).await?;
        }
    }
    restored.queued = queue_again(store, config, now).await?;
    Ok(restored)
}

/// Reads a table in batches, and removes the rows that `is_removed` names. Returns how many.
async fn remove<R: Send + 'static, K: Clone + Send + 'static>(
    store: &Store,
    read: impl Fn(&Scan<'_>, Option<&K>) -> Result<Vec<R>, StoreError> + Clone + Send + 'static,
    key: impl Fn(&R) -> K,
    is_removed: impl Fn(&R) -> Result<bool, StoreError>,
    remove: impl Fn(&mut Writes<'_>, &K) -> Result<(), StoreError> + Clone + Send + 'static,
) -> Result<usize, Failure> {
    let (mut removed, mut after): (usize, Option<K>) = (0, None);
    loop {
        let (read, cursor) = (read.clone(), after.clone());
        let batch = store.scan(move |scan| read(scan, cursor.as_ref())).await?;
        let Some(last) = batch.last() else { return Ok(removed) };
        after = Some(key(last));
        let mut keys = Vec::new();
        for row in &batch {
            if is_removed(row)? {
                keys.push(key(row));
            }
        }
        removed += keys.len();
        let remove = remove.clone();
        store.write(move |tables| keys.iter().try_for_each(|key| remove(tables, key))).await?;
    }
}

async fn remove_bindings(store: &Store, removals: &Removals<'_>) -> Result<usize, Failure> {
    remove(
        store,
        |scan, after: Option<&Address>| scan.associations_after(after, RESTORE_BATCH),
        |association| association.address.clone(),
        |association| Ok(removals.has_unbound(association)),
        |tables, address| tables.remove_association(address),
    )
    .await
}

async fn remove_invitations(store: &Store, removals: &Removals<'_>) -> Result<usize, Failure> {
    remove(
        store,
        |scan, after: Option<&Token>| scan.invitations_after(after, RESTORE_BATCH),
        |invitation| invitation.token.clone(),
        |invitation| removals.has_removed(invitation),
        |tables, token| tables.remove_invitation(token).map(drop),
    )
    .await
}

/// A logout leaves no entry in the audit. So a token that a whole database does not have was revoked.
async fn remove_tokens(store: &Store, removals: &Removals<'_>) -> Result<usize, Failure> {
    remove(
        store,
        |scan, after: Option<&SecretHash>| scan.tokens_after(after.copied(), RESTORE_BATCH),
        |token| token.hash,
        |token| Ok(removals.has_erased(&token.owner) || removals.old.has_removed_token(token.hash)?),
        |tables, hash| tables.remove_token(*hash).map(drop),
    )
    .await
}

async fn remove_consents(store: &Store, removals: &Removals<'_>) -> Result<usize, Failure> {
    remove(
        store,
        |scan, after: Option<&UserId>| scan.consenting_after(after, RESTORE_BATCH),
        UserId::clone,
        |user| Ok(removals.has_erased(user)),
        |tables, user| tables.remove_consents(user).map(drop),
    )
    .await
}

/// Takes over the opt-outs. One that was lifted since stays: the owner can lift it again.
async fn opt_out(store: &Store, old: &OldDatabase) -> Result<usize, Failure> {
    let mut missing = Vec::new();
    for (address, since) in &old.suppressed {
        if store.read().suppressed_since(address)?.is_none() {
            missing.push((*address, *since));
        }
    }
    let count = missing.len();
    store
        .write(move |tables| missing.iter().try_for_each(|(address, since)| tables.suppress(address, *since)))
        .await?;
    Ok(count)
}

/// Queues the calls to homeservers about invitations whose address is bound. Returns how many.
async fn queue_again(store: &Store, config: &Config, now: Millis) -> Result<usize, Failure> {
    let (mut queued, mut after, lifetime): (_, Option<Token>, _) = (0, None, config.invites.lifetime());
    loop {
        let cursor = after.clone();
        let batch = store.scan(move |scan| scan.invitations_after(cursor.as_ref(), RESTORE_BATCH)).await?;
        let Some(last) = batch.last() else { return Ok(queued) };
        after = Some(last.token.clone());
        let step = move |tables: &mut Writes<'_>| {
            let mut queued = 0;
            for invitation in batch {
                let Some(address) = invitation.invited.address() else { continue };
                if let Some(association) = tables.association(address)? {
                    queue_onbind(tables, &association, lifetime, now)?;
                    queued += usize::from(!invitation.is_expired(lifetime, now));
                }
            }
            Ok(queued)
        };
        queued += store.write(step).await?;
    }
}
