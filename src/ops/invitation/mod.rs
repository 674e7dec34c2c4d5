//! Invitations to people who are known by an address only: storing one, signing for whoever holds
//! the mail, cancelling (specification, Identity Service API, "Invitation storage" and "Ephemeral
//! invitation signing").
//!
//! What leaves because of them is a row of the outbox, written with the change.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Core, Failure, account::tokens::Authenticated, random};
use crate::{
    config::Invites,
    domain::{
        association::Association,
        ids::{RoomId, Token, UserId},
        invitation::{Described, Invitation, display_name},
        mail_names::{as_read, localpart_may_be_shown, name_for_mail},
        outbox::{Kind, OutboxKey, Outgoing, Parcel},
        refusal::Refusal,
        server_name::is_at_or_below,
        signing::PublicKey,
        threepid::Address,
        time::Millis,
    },
    store::{Store, StoreError, Writes},
};

/// An invitation to be stored.
pub struct Request {
    /// The address that is invited.
    pub address: Address,
    /// The room.
    pub room_id: RoomId,
    /// Who invites; must be the account.
    pub sender: UserId,
    /// What the homeserver says of room and sender.
    pub described: Described,
}

/// What the homeserver needs for the room's `m.room.third_party_invite` event.
pub struct Stored {
    /// The invitation's token.
    pub token: Token,
    /// Our key in use, and the invitation's own.
    pub public_keys: [PublicKey; 2],
    /// What everybody in the room may see of the address.
    pub display_name: String,
}

/// Stores an invitation, and has the person told by mail.
///
/// # Errors
/// `Forbidden` if the sender is not the account or looks like a link, or if the operator's lists
/// have the room, the homeserver or a word of the names; `ThreepidInUse` if the address leads to a
/// Matrix ID; `LimitExceeded` if no mail leaves any more today; `UnknownToken`.
pub async fn store(core: &Core, account: Authenticated, request: Request) -> Result<Stored, Failure> {
    let Request { address, room_id, sender, described } = request;
    if sender != *account.user_id() {
        return Err(Refusal::Forbidden("You can invite in your own name only").into());
    }
    require_allowed(&core.config.invites, &room_id, &sender, &described)?;
    let described = Described {
        room_name: described.room_name.as_deref().and_then(name_for_mail),
        inviter_name: described.inviter_name.as_deref().and_then(name_for_mail),
        ..described
    };
    let now = core.clock.now();
    let token = Token::from_bytes(random());
    let ephemeral_key = Invitation::key_pair(&token, &core.session_key).public();
    let stored = Stored {
        token: token.clone(),
        public_keys: [core.signing_keys[0].public(), ephemeral_key.clone()],
        display_name: display_name(&address, core.config.invites.show_characters),
    };
    let invitation = Invitation { token, address, room_id, sender, ephemeral_key, created: now };
    let ceiling = core.config.invites.daily_ceiling.get();
    let answer = core.store.write(move |tables| {
        if let Err(refusal) = account.check(tables)? {
            return Ok(Err(refusal));
        }
        if let Some(association) = tables.association(&invitation.address)? {
            return Ok(Err(Refusal::ThreepidInUse { user_id: association.user_id }));
        }
        if tables.invites_sent(now.day())? >= ceiling {
            return Ok(Err(Refusal::LimitExceeded { retry_after: now.rest_of_day() }));
        }
        tables.count_invite(now.day())?;
        tables.put_invitation(&invitation)?;
        let parcel = Parcel::InvitationMail(described);
        let key = OutboxKey { kind: parcel.kind(), token: invitation.token };
        tables.put_outgoing(&key, &Outgoing::new(parcel, now))?;
        Ok(Ok(()))
    });
    let answer = answer.await?;
    if let Err(Refusal::LimitExceeded { .. }) = answer {
        tracing::warn!(ceiling, "no invitation leaves any more today (invites.daily_ceiling)");
    }
    answer?;
    core.outbox_bell.notify_one();
    Ok(stored)
}

fn require_allowed(
    rules: &Invites,
    room_id: &RoomId,
    sender: &UserId,
    described: &Described,
) -> Result<(), Refusal> {
    let names = [&described.room_name, &described.inviter_name].into_iter().flatten();
    let names = names.map(String::as_str).chain([sender.localpart()]).map(as_read).collect::<Vec<_>>();
    let has_word = |word: &String| names.iter().any(|name| name.contains(&as_read(word)));
    if !localpart_may_be_shown(sender.localpart()) {
        Err(Refusal::Forbidden("This identity server sends no invitations for a Matrix ID like a link"))
    } else if rules.blocked_rooms.iter().any(|room| room == room_id.as_str()) {
        Err(Refusal::Forbidden("This identity server sends no invitations to that room"))
    } else if rules.blocked_homeservers.iter().any(|name| is_at_or_below(sender.server_name(), name)) {
        Err(Refusal::Forbidden("This identity server sends no invitations for users of that homeserver"))
    } else if rules.blocked_keywords.iter().any(has_word) {
        Err(Refusal::Forbidden("This identity server sends no invitations with such a name"))
    } else {
        Ok(())
    }
}

/// Has the homeserver of an association's user told of the invitations that waited for its
/// address. What it is to be told already stays as it is: whoever
/// publishes again and again must not have it tried again and again.
pub(in crate::ops) fn announce(
    tables: &mut Writes<'_>,
    association: &Association,
    lifetime: Duration,
    now: Millis,
) -> Result<(), StoreError> {
    for token in tables.invitations_to(&association.address)? {
        if tables.invitation(&token)?.is_some_and(|invitation| !invitation.is_expired(lifetime, now)) {
            let parcel = Parcel::OnBind(association.user_id.clone());
            let key = OutboxKey { kind: parcel.kind(), token };
            if tables.outgoing(&key)?.is_none_or(|row| row.parcel != parcel) {
                tables.put_outgoing(&key, &Outgoing::new(parcel, now))?;
            }
        }
    }
    Ok(())
}

/// Takes back what [`announce`] wanted said, for an association that is withdrawn.
pub(in crate::ops) fn keep_quiet(tables: &mut Writes<'_>, address: &Address) -> Result<(), StoreError> {
    for token in tables.invitations_to(address)? {
        tables.remove_outgoing(&OutboxKey { kind: Kind::OnBind, token })?;
    }
    Ok(())
}

/// Signs, with an invitation's own key, that `user_id` takes it up. Whoever has the mail has that
/// key, and nobody else.
///
/// # Errors
/// `UnknownInvitation`, or `Forbidden` if the key is not the invitation's.
pub fn sign(
    core: &Core,
    token: &Token,
    private_key: &str,
    user_id: &UserId,
) -> Result<Map<String, Value>, Failure> {
    let invitation = core.store.read().invitation(token)?;
    let invitation = invitation.filter(|invitation| is_pending(core, invitation));
    let invitation = invitation.ok_or(Refusal::UnknownInvitation)?;
    if !invitation.is_opened_by(private_key) {
        return Err(Refusal::Forbidden("This private key does not belong to this invitation").into());
    }
    let mut object = invitation.claim(user_id);
    object.insert("sender".to_owned(), json!(invitation.sender.as_str()));
    let key = Invitation::key_pair(token, &core.session_key);
    let has_form = key.sign_json(&core.config.server_name, &mut object);
    has_form.expect("strings have a canonical form");
    Ok(object)
}

/// Whether this is the key of an invitation that somebody may still take up.
///
/// # Errors
/// Only if the database fails.
pub fn is_ephemeral_key(core: &Core, public_key: &str) -> Result<bool, Failure> {
    let Some(key) = PublicKey::from_base64(public_key) else { return Ok(false) };
    let snapshot = core.store.read();
    let Some(token) = snapshot.invitation_by_key(&key)? else { return Ok(false) };
    Ok(snapshot.invitation(&token)?.is_some_and(|invitation| is_pending(core, &invitation)))
}

pub(in crate::ops) fn is_pending(core: &Core, invitation: &Invitation) -> bool {
    !invitation.is_expired(core.config.invites.lifetime(), core.clock.now())
}

/// Takes an invitation back for the account that sent it.
///
/// # Errors
/// `NotFound`, also for the invitations of others.
pub async fn cancel_by_sender(core: &Core, account: UserId, token: Token) -> Result<(), Failure> {
    let answer = core.store.write(move |tables| {
        let own = tables.invitation(&token)?.is_some_and(|invitation| invitation.sender == account);
        if !own {
            return Ok(Err(Refusal::NotFound("You have no pending invitation with this token")));
        }
        tables.remove_invitation(&token).map(Ok)
    });
    Ok(answer.await??)
}

/// Which invitations an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this token.
    Token(Token),
    /// All to this address.
    To(Address),
    /// All from this account.
    From(UserId),
}

/// Takes invitations back for the operator; how many there were. Needs no more than the database,
/// so that it works while no server runs.
///
/// # Errors
/// Only if the database fails.
pub async fn cancel(store: &Store, which: Which) -> Result<usize, Failure> {
    let tokens = match which {
        Which::Token(token) => vec![token],
        Which::To(address) => store.read().invitations_to(&address)?,
        Which::From(sender) => sent_by(store, &sender)?,
    };
    let mut cancelled = 0;
    for batch in tokens.chunks(BATCH) {
        let batch = batch.to_vec();
        let removed = store.write(move |tables| {
            let mut removed = 0;
            for token in batch {
                removed += usize::from(tables.invitation(&token)?.is_some());
                tables.remove_invitation(&token)?;
            }
            Ok(removed)
        });
        cancelled += removed.await?;
    }
    Ok(cancelled)
}

/// How many rows are looked at or removed in one step, so that nothing else waits for long.
pub(in crate::ops) const BATCH: usize = 256;

pub(in crate::ops) fn sent_by(store: &Store, sender: &UserId) -> Result<Vec<Token>, StoreError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let batch = store.read().invitations_after(after.as_ref(), BATCH)?;
        let Some(last) = batch.last() else { return Ok(found) };
        after = Some(last.token.clone());
        found.extend(batch.into_iter().filter(|one| one.sender == *sender).map(|one| one.token));
    }
}
