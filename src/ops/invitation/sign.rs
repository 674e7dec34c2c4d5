//! Accepts an invitation with its private key, and checks ephemeral public keys (specification, Identity
//! Service API, `/sign-ed25519` and `/pubkey/ephemeral/isvalid`).

use serde_json::{Map, Value, json};

use super::is_pending;
use crate::{
    domain::{
        ids::{Token, UserId},
        refusal::Refusal,
        signing::PublicKey,
    },
    ops::{Core, Failure},
};

/// Signs, with the invitation's own key, that `user_id` accepts it. Only the recipient of the mail has that
/// key.
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
    let key = invitation.opened_by(private_key);
    let key = key.ok_or(Refusal::Forbidden("This private key does not belong to this invitation"))?;
    let mut object = invitation.claim(user_id);
    object.insert("sender".to_owned(), json!(invitation.sender.as_str()));
    let signed = key.sign_json(&core.config.server_name, &mut object);
    signed.expect("strings have a canonical form");
    Ok(object)
}

/// Whether this is the key of a pending invitation.
pub fn is_ephemeral_key(core: &Core, public_key: &str) -> Result<bool, Failure> {
    let Some(key) = PublicKey::from_base64(public_key) else { return Ok(false) };
    let snapshot = core.store.read();
    let Some(token) = snapshot.invitation_by_key(&key)? else { return Ok(false) };
    Ok(snapshot.invitation(&token)?.is_some_and(|invitation| is_pending(core, &invitation)))
}
