//! What has to leave, as the task that sends it sees it: what is due, what exactly to send, and
//! what became of it.
//!
//! Nothing is sent here. A row is looked at again right before it is sent and right after, since
//! it may have been replaced or withdrawn in the meantime.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Core, Failure, address::suppression::suppressed_since, invitation::is_pending};
use crate::domain::{
    ids::UserId,
    invitation::{Described, Invitation},
    language::Language,
    outbox::{Notice, OutboxKey, Outgoing, Parcel},
    time::Millis,
};

/// All but the unreserved characters (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Rows that are due, the longest due first, those after `after` in that order: a row and when it
/// was due.
///
/// # Errors
/// Only if the database fails.
pub async fn due(
    core: &Core,
    after: Option<(Millis, OutboxKey)>,
    most: usize,
) -> Result<Vec<(OutboxKey, Outgoing)>, Failure> {
    let now = core.clock.now();
    let due = core.store.scan(move |scan| {
        let mut rows = Vec::new();
        for (_, key) in scan.due(now, after.as_ref(), most)? {
            rows.extend(scan.outgoing(&key)?.map(|row| (key, row)));
        }
        Ok(rows)
    });
    Ok(due.await?)
}

/// Waits until something new is in the outbox.
pub async fn changed(core: &Core) {
    core.store.outbox_changed().await;
}

/// A thing as it leaves.
pub enum Content {
    /// The body of `/3pid/onbind` for the homeserver of this user.
    OnBind(UserId, Value),
    /// The mail of an invitation.
    Invitation(Box<InvitationContent>),
    /// The mail to the owner of an address.
    OwnerNotice(Box<Notice>),
}

/// What the mail of an invitation is made from.
pub struct InvitationContent {
    /// The invitation.
    pub invitation: Invitation,
    /// What it says of room and sender.
    pub described: Described,
    /// Where the person joins from.
    pub link: String,
    /// The language it is written in: the operator's, since nothing is known of the person.
    pub language: Language,
}

/// What to send for a row; `None` if it was withdrawn, replaced, or came to nothing.
///
/// # Errors
/// Only if the database fails.
pub fn content(core: &Core, key: &OutboxKey, row: &Outgoing) -> Result<Option<Content>, Failure> {
    let snapshot = core.store.read();
    if snapshot.outgoing(key)?.as_ref() != Some(row) {
        return Ok(None);
    }
    let invitation = snapshot.invitation(&key.token)?;
    let invitation = invitation.filter(|invitation| is_pending(core, invitation));
    Ok(match (&row.parcel, invitation) {
        (Parcel::OwnerNotice(notice), _) => {
            let is_late = row.is_late(core.clock.now());
            let may_leave = !is_late && suppressed_since(&snapshot, &notice.address)?.is_none();
            may_leave.then(|| Content::OwnerNotice(Box::new(notice.clone())))
        }
        (_, None) => None,
        (Parcel::OnBind(user_id), Some(invitation)) => {
            drop(snapshot);
            let mut signed = invitation.claim(user_id);
            let key = &core.signing_keys[0];
            let has_form = key.sign_json(&core.config.server_name, &mut signed);
            has_form.expect("strings have a canonical form");
            Some(Content::OnBind(user_id.clone(), invitation.onbind(user_id, signed)))
        }
        (Parcel::InvitationMail(described), Some(invitation)) => {
            if suppressed_since(&snapshot, &invitation.address)?.is_some() {
                return Ok(None);
            }
            let link = join_link(core, &invitation, described);
            let (described, language) = (described.clone(), core.config.mail.default_language);
            Some(Content::Invitation(Box::new(InvitationContent { invitation, described, link, language })))
        }
    })
}

/// The link of an invitation's mail, as web clients read it: the room, and a URL that signs for
/// whoever joins with it.
fn join_link(core: &Core, invitation: &Invitation, described: &Described) -> String {
    let private_key = Invitation::key_pair(&invitation.token, &core.session_key).private_base64();
    let (base, token) = (&core.config.public_base_url, invitation.token.as_str());
    let sign_url = format!("{base}/_matrix/identity/v2/sign-ed25519?token={token}&private_key={private_key}");
    let mut query = vec![("email", invitation.address.as_str()), ("signurl", &sign_url)];
    query.extend(described.room_name.as_deref().map(|name| ("room_name", name)));
    query.extend(described.inviter_name.as_deref().map(|name| ("inviter_name", name)));
    query.extend(described.is_space.then_some(("room_type", "m.space")));
    let encode = |text| utf8_percent_encode(text, RESERVED);
    let room = encode(invitation.room_id.as_str());
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("{}/#/room/{room}?{}", core.config.invites.web_client_url, query.join("&"))
}

/// What became of something that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Delivered,
    /// It did not, and may if it is tried again.
    Failed,
    /// It did not and never will.
    Refused,
    /// There is nothing to send any more.
    Withdrawn,
}

/// What happened to the row in consequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settled {
    /// It is done and gone.
    Delivered,
    /// It waits for another try.
    Waiting,
    /// It was tried for long enough and is gone.
    GivenUp,
    /// The other side does not want it; it is gone.
    Refused,
    /// It was replaced or withdrawn before.
    Withdrawn,
}

impl Settled {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Waiting => "waiting",
            Self::GivenUp => "given_up",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Writes down what became of rows that were to be sent, in one transaction.
///
/// # Errors
/// Only if the database fails.
pub async fn settle(
    core: &Core,
    rows: Vec<(OutboxKey, Outgoing)>,
    fate: Fate,
) -> Result<Vec<Settled>, Failure> {
    let now = core.clock.now();
    let settled = core.store.write(move |tables| {
        let mut settled = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            // Somebody else may have published the address meanwhile; that is a row of its own.
            if tables.outgoing(&key)?.as_ref() != Some(&row) {
                settled.push(Settled::Withdrawn);
                continue;
            }
            settled.push(match (fate, &row.parcel) {
                // The homeserver knows: nothing about it has to be remembered here.
                (Fate::Delivered, Parcel::OnBind(_)) => {
                    tables.remove_invitation(&key.token)?;
                    Settled::Delivered
                }
                (Fate::Delivered, Parcel::InvitationMail(_) | Parcel::OwnerNotice(_)) => {
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
