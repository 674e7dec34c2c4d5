//! Stores an invitation for an email address, signs for its recipient, and cancels it.

use actix_web::{
    HttpRequest,
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, empty, json};
use crate::{
    domain::{
        ids::{RoomId, Token, UserId},
        invitation::Described,
        refusal::Refusal,
        threepid::{Address, Medium},
    },
    http::{
        State,
        body::{Body, parsed, query, required},
        caller::{Account, Caller},
    },
    ops::invitation::{
        cancel::cancel_by_sender,
        sign,
        store::{self, Request},
    },
};

/// The request, with only those details of the room that the mail quotes.
#[derive(Deserialize)]
struct StoreInvite {
    medium: Option<String>,
    address: Option<String>,
    room_id: Option<String>,
    sender: Option<String>,
    room_name: Option<String>,
    room_alias: Option<String>,
    room_type: Option<String>,
    sender_display_name: Option<String>,
}

/// `POST /store-invite`
pub async fn store_invite(state: Data<State>, account: Account, caller: Caller, body: Body) -> Answer {
    let wire: StoreInvite = body.json_or_form()?;
    let medium = required(wire.medium, "medium")?;
    if Medium::parse(&medium) != Some(Medium::Email) {
        return Err(Refusal::UnsupportedMedium.into());
    }
    let address = Address::email(&required(wire.address, "address")?).ok_or(Refusal::InvalidEmail)?;
    address.smtp().ok_or(Refusal::InvalidEmail)?;
    let described = Described {
        room_name: wire.room_name.filter(|name| !name.trim().is_empty()).or(wire.room_alias),
        inviter_name: wire.sender_display_name,
        is_space: wire.room_type.as_deref() == Some("m.space"),
    };
    let room_id = parsed(wire.room_id, "room_id", RoomId::parse)?;
    let sender = parsed(wire.sender, "sender", UserId::parse)?;
    let now = state.core.clock.now();
    let core = &state.core;
    core.limits.invite(&core.budgets, caller.network(), &account.0, &address, now)?;
    let request = Request { address, room_id, sender, described };
    let stored = store::store(&state.core, account.0, request).await?;
    let base = format!("{}/_matrix/identity/v2/pubkey", state.core.config.public_base_url);
    let [ours, ephemeral] = stored.public_keys.map(|key| key.to_base64());
    json(json!({
        "token": stored.token.as_str(),
        "public_keys": [
            { "public_key": ours, "key_validity_url": format!("{base}/isvalid") },
            { "public_key": ephemeral, "key_validity_url": format!("{base}/ephemeral/isvalid") },
        ],
        "display_name": stored.display_name,
    }))
}

#[derive(Default, Deserialize)]
struct Sign {
    mxid: Option<String>,
    token: Option<String>,
    private_key: Option<String>,
}

/// `POST /sign-ed25519`
pub async fn sign(
    state: Data<State>,
    _account: Account,
    caller: Caller,
    request: HttpRequest,
    body: Body,
) -> Answer {
    sign_by_link(state, caller, request, body).await
}

/// `POST /sign-ed25519` of version 1
///
/// It needs no access token: the invitation's token and private key in the mail are the proof. Clients that
/// follow the link in the mail send the parameters in the query.
pub async fn sign_by_link(state: Data<State>, caller: Caller, request: HttpRequest, body: Body) -> Answer {
    let here: Sign = query(&request)?;
    let there: Sign = if body.is_empty() { Sign::default() } else { body.json_or_form()? };
    let user_id = parsed(there.mxid.or(here.mxid), "mxid", UserId::parse)?;
    let token = parsed(there.token.or(here.token), "token", Token::parse)?;
    let private_key = required(there.private_key.or(here.private_key), "private_key")?;
    state.core.limits.sign(caller.network(), state.core.clock.now())?;
    let core = state.core.clone();
    let signed = async move { sign::sign(&core, &token, &private_key, &user_id) };
    json(state.off_thread(signed).await?)
}

/// `DELETE /_bindery/v1/invitations/{token}`: Bindery's own endpoint, see docs/api.md.
pub async fn cancel(state: Data<State>, account: Account, token: Path<String>) -> Answer {
    let token = parsed(Some(token.into_inner()), "token", Token::parse)?;
    cancel_by_sender(&state.core, account.0.user_id().clone(), token).await?;
    empty()
}
