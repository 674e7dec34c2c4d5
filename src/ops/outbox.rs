//! The outbox, for the task that sends it: which rows are due, what to send for a row, and how to record the
//! result.
//!
//! Nothing is sent here. Each row is read again right before and right after it is sent, because it may have
//! been replaced or withdrawn.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Core, Failure, address::suppression::suppressed_since, invitation::is_pending};
use crate::{
    domain::{
        ids::UserId,
        invitation::{Described, Invitation},
        language::Language,
        outbox::{OutboxKey, Outgoing, OwnerMail, Payload, RETRY_MOST, Settled},
        registrable::registrable_domain,
        secret::{Key32, url_text},
        server_name::host_key,
        threepid::Address,
        time::Millis,
    },
    store::{Scan, StoreError},
};

/// All except the unreserved characters (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A row that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its key.
    pub key: OutboxKey,
    /// The row.
    pub row: Outgoing,
    /// Where the row goes: a homeserver without its port, or a keyed hash of the registrable domain of the recipient of a
    /// mail. Empty if the invitation is gone.
    pub host: String,
    /// The homeserver of the account that caused a mail, or the one that the row goes to. Empty if the invitation is gone.
    pub homeserver: String,
}

/// When a row is due, and its key: the next batch of rows follows this one.
pub type DueCursor = (Millis, OutboxKey);

/// A batch of rows that are due.
#[derive(Default)]
pub struct DueBatch {
    /// The readable ones, the longest due first.
    pub rows: Vec<Due>,
    /// `None` if this was the last batch.
    pub next: Option<DueCursor>,
}

/// At most `limit` rows that are due, the longest due first, behind `cursor`.
pub async fn due(core: &Core, cursor: Option<DueCursor>, limit: usize) -> Result<DueBatch, Failure> {
    let (now, session_key) = (core.clock.now(), core.session_key.clone());
    let due = core.store.scan(move |scan| {
        let mut rows = Vec::new();
        let keys = scan.due(now, cursor.as_ref(), limit)?;
        let next = keys.last().filter(|_| keys.len() == limit).cloned();
        for (_, key) in keys {
            let row = scan.outgoing(&key).and_then(|row| {
                let route = |row: &Outgoing| route_of(scan, &session_key, &key, &row.payload);
                let routed = row.map(|row| route(&row).map(|route| (row, route))).transpose()?;
                Ok(routed.map(|(row, (host, homeserver))| Due { key: key.clone(), row, host, homeserver }))
            });
            match row {
                // Retention deletes it.
                Err(error) if error.is_unreadable_row() => {}
                row => rows.extend(row?),
            }
        }
        Ok(DueBatch { rows, next })
    });
    Ok(due.await?)
}

/// How many rows one transaction reschedules.
const RESCHEDULE_BATCH: usize = 256;

/// Makes rows due now that are scheduled further ahead than any retry. A clock that was ahead wrote them. Otherwise
/// Bindery would send them only when that time comes.
pub async fn reschedule_far_rows(core: &Core) -> Result<(), Failure> {
    let now = core.clock.now();
    let latest_retry = now.after(RETRY_MOST);
    let mut cursor = None;
    loop {
        let keys =
            core.store.scan(move |scan| scan.due_after(latest_retry, cursor.as_ref(), RESCHEDULE_BATCH));
        let keys = keys.await?;
        cursor = keys.last().filter(|_| keys.len() == RESCHEDULE_BATCH).cloned();
        let rescheduled = core.store.write(move |tables| {
            for (_, key) in &keys {
                match tables.outgoing(key) {
                    Ok(Some(row)) => {
                        tables.put_outgoing(key, &Outgoing { since: now.min(row.since), due: now, ..row })?;
                    }
                    // Retention deletes it.
                    Err(error) if error.is_unreadable_row() => {}
                    row => drop(row?),
                }
            }
            Ok(())
        });
        rescheduled.await?;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// Stands for the registrable domain of a mail's recipient, also where the address is not stored.
pub fn mail_domain(session_key: &Key32, address: &Address) -> Option<String> {
    let (_, domain) = address.smtp()?;
    Some(url_text(&session_key.mac(&[b"mail domain", registrable_domain(&domain).as_bytes()])))
}

/// The host and the homeserver of [`Due`].
fn route_of(
    scan: &Scan<'_>,
    session_key: &Key32,
    key: &OutboxKey,
    payload: &Payload,
) -> Result<(String, String), StoreError> {
    let of_address = |address: &Address| mail_domain(session_key, address);
    // It may be gone.
    let invitation = || scan.invitation(&key.token);
    let (host, account) = match payload {
        Payload::OnBind(user_id) => (Some(host_key(user_id.server_name())), Some(user_id.clone())),
        Payload::OwnerMail(notice) => (of_address(&notice.address), Some(notice.user_id.clone())),
        Payload::InvitationMail(_) => match invitation()? {
            Some(invitation) => (invitation.invited.address().and_then(of_address), Some(invitation.sender)),
            None => (None, None),
        },
        Payload::NoMail(domain) => (Some(domain.clone()), invitation()?.map(|invitation| invitation.sender)),
    };
    let homeserver = account.map(|account| host_key(account.server_name()));
    Ok((host.unwrap_or_default(), homeserver.unwrap_or_default()))
}

/// Waits until a commit puts a row into the outbox.
pub async fn changed(core: &Core) {
    core.store.outbox_changed().await;
}

/// The content of a row, ready to be sent.
pub enum Content {
    /// The body of `/3pid/onbind`, for the homeserver of this user.
    OnBind(UserId, Value),
    /// No mail, but its turn.
    NoMail,
    /// The mail of an invitation.
    Invitation(Box<InvitationContent>),
    /// The mail to the owner of an address.
    OwnerMail(Box<OwnerMail>),
}

/// The content of an invitation mail.
pub struct InvitationContent {
    /// The invited address.
    pub to: Address,
    /// The account that sent the invitation.
    pub sender: UserId,
    /// What the homeserver says about the room and the sender.
    pub described: Described,
    /// The link that the person follows to join.
    pub link: String,
    /// The operator's default language, because the person's language is unknown.
    pub language: Language,
}

/// The content to send for a row. `None` if the row was withdrawn or replaced, or must not be sent any more.
pub fn content(core: &Core, key: &OutboxKey, row: &Outgoing) -> Result<Option<Content>, Failure> {
    let snapshot = core.store.read();
    if snapshot.outgoing(key)?.as_ref() != Some(row) {
        return Ok(None);
    }
    let invitation = snapshot.invitation(&key.token)?;
    let invitation = invitation.filter(|invitation| is_pending(core, invitation));
    let to = invitation.as_ref().and_then(|invitation| invitation.invited.address().cloned());
    Ok(match (&row.payload, invitation.zip(to)) {
        (Payload::OwnerMail(notice), _) => {
            let is_late = row.is_late(core.clock.now());
            let may_leave = !is_late && suppressed_since(&snapshot, &notice.address)?.is_none();
            may_leave.then(|| Content::OwnerMail(Box::new(notice.clone())))
        }
        (Payload::NoMail(_), _) => Some(Content::NoMail),
        (_, None) => None,
        (Payload::OnBind(user_id), Some((invitation, to))) => {
            drop(snapshot);
            let mut signed = invitation.claim(user_id);
            let key = &core.signing_keys[0];
            let has_form = key.sign_json(&core.config.server_name, &mut signed);
            has_form.expect("strings have a canonical form");
            Some(Content::OnBind(user_id.clone(), invitation.onbind(&to, user_id, signed)))
        }
        (Payload::InvitationMail(described), Some((invitation, to))) => {
            // Its owner may have opted out since it was stored.
            if suppressed_since(&snapshot, &to)?.is_some() {
                return Ok(None);
            }
            let link = join_link(core, &invitation, &to, described);
            let (described, language) = (described.clone(), core.config.mail.default_language);
            let sender = invitation.sender;
            Some(Content::Invitation(Box::new(InvitationContent { to, sender, described, link, language })))
        }
    })
}

/// The link in an invitation mail, in the format of web clients: the room, and a URL that signs for the user
/// who joins with it.
fn join_link(core: &Core, invitation: &Invitation, to: &Address, described: &Described) -> String {
    let private_key = Invitation::key_pair(&invitation.token, &core.session_key).private_base64();
    let (base, token) = (&core.config.public_base_url, invitation.token.as_str());
    // Version 2 demands an access token, and the person may have none yet.
    let sign_url =
        format!("{base}/_matrix/identity/api/v1/sign-ed25519?token={token}&private_key={private_key}");
    let mut query = vec![("email", to.as_str()), ("signurl", &sign_url)];
    query.extend(described.room_name.as_deref().map(|name| ("room_name", name)));
    query.extend(described.inviter_name.as_deref().map(|name| ("inviter_name", name)));
    query.extend(described.is_space.then_some(("room_type", "m.space")));
    let encode = |text| utf8_percent_encode(text, RESERVED);
    let room = encode(invitation.room_id.as_str());
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("{}/#/room/{room}?{}", core.config.invites.web_client_url, query.join("&"))
}

/// The result of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was delivered.
    Delivered,
    /// It failed and may be retried.
    Failed,
    /// It failed permanently.
    Refused,
    /// There is nothing to send: the row was withdrawn or replaced, or its recipient has opted out.
    Withdrawn,
}

/// Records the result of sending these rows, in one transaction. Returns what happened to each row.
pub async fn settle(core: &Core, rows: Vec<Due>, fate: Fate) -> Result<Vec<Settled>, Failure> {
    let now = core.clock.now();
    let settled = core.store.write(move |tables| {
        let mut settled = Vec::with_capacity(rows.len());
        for Due { key, row, .. } in rows {
            // Another account may have bound the address meanwhile. Its row replaced this one.
            if tables.outgoing(&key)?.as_ref() != Some(&row) {
                settled.push(Settled::Withdrawn);
                continue;
            }
            settled.push(match (fate, &row.payload) {
                // The homeserver has the invitation now, so it need not be kept here.
                (Fate::Delivered, Payload::OnBind(_)) => {
                    tables.remove_invitation(&key.token)?;
                    Settled::Delivered
                }
                (
                    Fate::Delivered,
                    Payload::InvitationMail(_) | Payload::NoMail(_) | Payload::OwnerMail(_),
                ) => {
                    tables.remove_outgoing(&key)?;
                    Settled::Delivered
                }
                (Fate::Failed, _) => match row.after_failure(now) {
                    Some(later) => {
                        tables.put_outgoing(&key, &later)?;
                        Settled::Waiting
                    }
                    None => {
                        tables.remove_outgoing(&key)?;
                        Settled::GivenUp
                    }
                },
                (Fate::Refused, _) => {
                    tables.remove_outgoing(&key)?;
                    Settled::Refused
                }
                (Fate::Withdrawn, _) => {
                    tables.remove_outgoing(&key)?;
                    Settled::Withdrawn
                }
            });
        }
        Ok(settled)
    });
    Ok(settled.await?)
}
