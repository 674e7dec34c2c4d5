//! Stores an invitation and queues its mail (specification, Identity Service API, `/store-invite`).
//!
//! An invitation to an address that has opted out is stored without the address and never delivered. The inviter must
//! not learn that (design, section 4, rule 12), so every answer and the work behind it are as for any other.

use crate::{
    config::Invites,
    domain::{
        ids::{RoomId, Token, UserId},
        invitation::{Described, Invitation, Invited, display_name, masked},
        names::{as_read, is_plain_localpart, name_for_mail},
        outbox::{OutboxKey, Outgoing, Payload},
        refusal::Refusal,
        server_name::is_at_or_below,
        signing::PublicKey,
        threepid::Address,
    },
    ops::{
        Core, Failure,
        account::tokens::Authenticated,
        address::suppression::suppressed_since,
        limits::ceiling::{self, Ceiling},
        outbox, random,
    },
};

/// An invitation to be stored.
pub struct Request {
    /// The invited address.
    pub address: Address,
    /// The room.
    pub room_id: RoomId,
    /// The sender. Must be the account.
    pub sender: UserId,
    /// What the homeserver says about the room and the sender.
    pub described: Described,
}

/// What the homeserver needs for the room's `m.room.third_party_invite` event.
pub struct Stored {
    /// The invitation's token.
    pub token: Token,
    /// The server's current key, and the invitation's own key.
    pub public_keys: [PublicKey; 2],
    /// The part of the address that is shown in the room.
    pub display_name: String,
}

/// Stores an invitation, and queues the mail to the invited person unless they have opted out.
///
/// # Errors
/// `Forbidden` if the sender is not the account or looks like a link, or if the operator blocks the room, the
/// homeserver or a word in the names. `ThreepidInUse` if the address is bound. `LimitExceeded` if the daily
/// ceiling of invitation mails is reached, or the share of the account's domain in it. `UnknownToken`.
pub async fn store(core: &Core, account: Authenticated, request: Request) -> Result<Stored, Failure> {
    let Request { address, room_id, sender, described } = request;
    if sender != *account.user_id() {
        return Err(Refusal::Forbidden("You can send invitations only as yourself").into());
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
    let mail_domain = outbox::mail_domain(&core.session_key, &address).unwrap_or_default();
    let (most, share) = (core.config.invites.daily_ceiling.get(), core.limits.inviters.of(&sender));
    let written = core.write(move |tables| {
        account.check(tables)?;
        if let Some(association) = tables.association(&address)? {
            return Err(Refusal::ThreepidInUse { user_id: association.user_id }.into());
        }
        ceiling::count_invitation(tables, most, share.as_ref(), now)?;
        let (invited, payload) = match suppressed_since(tables, &address)? {
            None => (Invited::Address(address), Payload::InvitationMail(described)),
            Some(_) => (Invited::OptedOut { masked: masked(&address) }, Payload::NoMail(mail_domain)),
        };
        let invitation = Invitation { token, invited, room_id, sender, ephemeral_key, created: now };
        tables.put_invitation(&invitation)?;
        let key = OutboxKey { kind: payload.kind(), token: invitation.token };
        tables.put_outgoing(&key, &Outgoing::new(payload, now))?;
        Ok(())
    });
    written
        .await
        .inspect_err(|failure| Ceiling::Invitations.note_if_reached(&core.metrics, failure, most))?;
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
    if !is_plain_localpart(sender.localpart()) {
        Err(Refusal::Forbidden(
            "This identity server sends no invitations from a Matrix ID that looks like a link",
        ))
    } else if rules.blocked_rooms.iter().any(|room| room == room_id.as_str()) {
        Err(Refusal::Forbidden("This identity server sends no invitations to that room"))
    } else if rules.blocked_homeservers.iter().any(|name| is_at_or_below(sender.server_name(), name)) {
        Err(Refusal::Forbidden("This identity server sends no invitations from users of that homeserver"))
    } else if rules.blocked_keywords.iter().any(has_word) {
        Err(Refusal::Forbidden("This identity server sends no invitations with such a name"))
    } else {
        Ok(())
    }
}
