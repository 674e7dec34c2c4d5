//! Exports everything that is stored about a person as one document (design, P11; its schema is published as
//! `docs/export.schema.json`).
//!
//! The owner of an address gets what is stored about that address. The owner of an access token gets what is
//! stored about the account, with masked addresses (P2). The document contains nothing about other people.

mod document;

use std::{io, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

pub use self::document::Export;
use self::document::{
    AccessToken, Audited, Binding, Consent, LookedUp, LookupMade, OpenVisit, ReceivedInvitation,
    SentInvitation, ValidationSession, Waiting,
};
use super::audit::{about, entry, subject_of, subjects_of};
use crate::{
    domain::{
        audit::{By, Deed, subject},
        ids::UserId,
        invitation::{Invitation, masked},
        outbox::{Kind, OutboxKey, Outgoing},
        refusal::Refusal,
        retention::SESSION,
        session::{Progress, Session},
        threepid::Address,
        time::Millis,
    },
    metrics::RequestLimit,
    ops::{Core, Failure, address::suppression::suppressed_since},
    store::{AcceptedDocument, Snapshot, StoreError},
};

/// Whether addresses are shown whole or masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addresses {
    Whole,
    Masked,
}

impl Addresses {
    fn show(self, address: &Address) -> String {
        match self {
            Self::Whole => address.as_str().to_owned(),
            Self::Masked => masked(address),
        }
    }
}

/// How many exports run at a time. Each reads all files of the lookup log, up to seven GiB.
const MAX_RUNNING: usize = 2;

/// When to retry if others run.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Bounds how many exports run at a time.
pub struct Exports(Semaphore);

impl Default for Exports {
    fn default() -> Self {
        Self(Semaphore::new(MAX_RUNNING))
    }
}

impl Exports {
    /// A place for one export. The operator waits for it; others must retry, so that they cannot queue.
    async fn place(&self, by: By) -> Result<SemaphorePermit<'_>, Refusal> {
        let place = match by {
            By::Operator => self.0.acquire().await.ok(),
            By::Owner | By::Account | By::Server | By::Homeserver => self.0.try_acquire().ok(),
        };
        place.ok_or(Refusal::LimitExceeded { retry_after: RETRY_AFTER })
    }
}

/// Exports what is stored about an address, for its owner or the operator. Adds an entry to the audit.
///
/// # Errors
/// `LimitExceeded` if others are being made.
pub async fn of_address(core: &Core, address: &Address, by: By) -> Result<Export, Failure> {
    let _place =
        core.exports.place(by).await.inspect_err(|_| core.metrics.count_limited(RequestLimit::Exports))?;
    note_export(core, subject_of(core, address), by).await?;
    let peppers = core.store.read().peppers().iter().map(|index| index.pepper.clone()).collect::<Vec<_>>();
    let (logs, asked) = (core.logs.clone(), address.clone());
    let lookups = in_background(move || logs.lookups_of(&asked, &peppers)).await?;
    let mut export = about_address(core, address)?;
    export.lookups = lookups.into_iter().map(LookedUp::from).collect();
    Ok(export)
}

async fn note_export(core: &Core, subject: [u8; 32], by: By) -> Result<(), Failure> {
    let entry = entry(core, by, Deed::Export, subject);
    Ok(core.store.write(move |tables| tables.put_audit(&entry)).await?)
}

/// Reads files on the blocking pool, so that no request waits for the disk.
async fn in_background<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // The text of a panic may quote an address.
    spawn_blocking(read).await.map_err(|_| io::Error::other("reading the logs panicked"))?
}

/// What is stored about an address, for the owner's own page. This is no export: it has no lookups, and adds no
/// entry to the audit.
pub fn about_address(core: &Core, address: &Address) -> Result<Export, Failure> {
    let now = core.clock.now();
    let mut export = empty(core, now, address.as_str());
    let snapshot = core.store.read();
    let sessions = snapshot.sessions_of_address(address)?;
    export.bindings.extend(binding(&snapshot, address, Addresses::Whole)?);
    export.validation_sessions =
        sessions.iter().map(|(_, one)| validation_session(one, Addresses::Whole)).collect();
    add_received(core, &snapshot, address, &mut export)?;
    export.not_written_to_since = suppressed_since(&snapshot, address)?.map(|since| since.0);
    let visits = snapshot.visits_of(address)?;
    export.visits = visits.iter().map(|(_, visit)| OpenVisit { until: visit.until.0 }).collect();
    export.audit = audited(&snapshot, &subjects_of(core, address))?;
    Ok(export)
}

/// Exports what is stored about an account. Adds an entry to the audit. The operator gets all of it. The owner
/// of an access token gets masked addresses and no IP addresses, since the homeserver can have a token too
/// (P2).
///
/// # Errors
/// `LimitExceeded` if others are being made.
pub async fn of_account(core: &Core, user: &UserId, by: By) -> Result<Export, Failure> {
    let _place =
        core.exports.place(by).await.inspect_err(|_| core.metrics.count_limited(RequestLimit::Exports))?;
    let (subject, now) = (subject(&core.session_key, user.as_str()), core.clock.now());
    note_export(core, subject, by).await?;
    let shows_ip = by == By::Operator;
    let addresses = if by == By::Operator { Addresses::Whole } else { Addresses::Masked };
    let (logs, asked) = (core.logs.clone(), user.clone());
    let lookups = in_background(move || logs.lookups_by(&asked)).await?;
    let mut export = empty(core, now, user.as_str());
    let snapshot = core.store.read();
    let sessions = snapshot.sessions_of_account(user)?;
    for association in snapshot.associations_of(user)? {
        export.bindings.extend(binding(&snapshot, &association.address, addresses)?);
        add_received(core, &snapshot, &association.address, &mut export)?;
    }
    export.validation_sessions = sessions.iter().map(|(_, one)| validation_session(one, addresses)).collect();
    for invitation in snapshot.invitations_from(user)? {
        let (since, until) = lifetime(core, &invitation);
        // Masked in the operator's copy too: the address may not be stored.
        let (room_id, to) = (invitation.room_id.as_str().to_owned(), invitation.invited.masked());
        export.invitations_sent.push(SentInvitation { room_id, to, since, until });
    }
    let tokens = snapshot.tokens_of(user)?;
    export.access_tokens =
        tokens.iter().map(|t| AccessToken { since: t.created.0, used: t.used.0 }).collect();
    for consent in snapshot.consents_of(user)? {
        let AcceptedDocument { document, version, accepted } = consent;
        export.consents.push(Consent { document, version, accepted: accepted.0 });
    }
    export.lookups_made = lookups.into_iter().map(|lookup| LookupMade::new(lookup, shows_ip)).collect();
    export.audit = audited(&snapshot, &[subject])?;
    Ok(export)
}

fn empty(core: &Core, now: Millis, subject: &str) -> Export {
    Export {
        server_name: core.config.server_name.clone(),
        exported_at: now.0,
        subject: subject.to_owned(),
        bindings: Vec::new(),
        validation_sessions: Vec::new(),
        invitations_received: Vec::new(),
        invitations_sent: Vec::new(),
        access_tokens: Vec::new(),
        consents: Vec::new(),
        waiting_to_be_sent: Vec::new(),
        not_written_to_since: None,
        lookups: Vec::new(),
        lookups_made: Vec::new(),
        visits: Vec::new(),
        audit: Vec::new(),
    }
}

fn binding(
    snapshot: &Snapshot,
    address: &Address,
    addresses: Addresses,
) -> Result<Option<Binding>, StoreError> {
    let Some(association) = snapshot.association(address)? else { return Ok(None) };
    let language = snapshot.language_of(address)?.unwrap_or_default();
    Ok(Some(Binding {
        medium: address.medium().as_str(),
        address: addresses.show(address),
        user_id: association.user_id.as_str().to_owned(),
        since: association.ts.0,
        language: language.as_str(),
    }))
}

fn validation_session(session: &Session, addresses: Addresses) -> ValidationSession {
    ValidationSession {
        medium: session.address.medium().as_str(),
        address: addresses.show(&session.address),
        state: match session.progress {
            Progress::Pending => "pending",
            Progress::Validated(_) => "validated",
            Progress::Withdrawn => "withdrawn",
        },
        modified: session.modified.0,
        until: session.modified.after(SESSION).0,
    }
}

/// Adds the invitations to an address, and the queued messages for them and to the owner. The sender is another
/// person, so it is left out.
fn add_received(
    core: &Core,
    snapshot: &Snapshot,
    address: &Address,
    export: &mut Export,
) -> Result<(), StoreError> {
    for token in snapshot.invitations_to(address)? {
        let Some(invitation) = snapshot.invitation(&token)? else { continue };
        let (since, until) = lifetime(core, &invitation);
        let room_id = invitation.room_id.as_str().to_owned();
        export.invitations_received.push(ReceivedInvitation { room_id, since, until });
        for kind in Kind::OF_INVITATION {
            let row = snapshot.outgoing(&OutboxKey { kind, token: token.clone() })?;
            export.waiting_to_be_sent.extend(row.map(waiting));
        }
    }
    let notice = snapshot.outgoing(&OutboxKey::of_owner_mail(address, &core.session_key))?;
    export.waiting_to_be_sent.extend(notice.map(waiting));
    Ok(())
}

fn waiting(row: Outgoing) -> Waiting {
    let kind = row.payload.kind().as_str();
    Waiting { kind, since: row.since.0, due: row.due.0, until: row.until().0 }
}

fn lifetime(core: &Core, invitation: &Invitation) -> (u64, u64) {
    (invitation.created.0, invitation.created.after(core.config.invites.lifetime()).0)
}

fn audited(snapshot: &Snapshot, subjects: &[[u8; 32]]) -> Result<Vec<Audited>, StoreError> {
    let entries = about(snapshot, subjects)?.into_iter();
    Ok(entries.map(|one| Audited { at: one.at.0, deed: one.deed.as_str(), by: one.by.as_str() }).collect())
}
