//! Verifies the `X-Matrix` signature of a homeserver's request (specification, Server-Server API, "Request
//! Authentication").

use std::collections::HashMap;

use serde_json::Value;

use super::{Core, Failure, HomeserverError, busy};
use crate::domain::{
    ids::UserId,
    network::Network,
    refusal::Refusal,
    signing::{SignedText, XMatrix},
};

/// The most signatures of a request that are checked. A homeserver signs with each of its keys.
const MAX_SIGNATURES: usize = 8;

/// What the homeserver may have signed, by the member that names this server and the name in it. Each is made once,
/// since that takes milliseconds for a large request; `None` if it has no canonical form.
type SignedTexts = HashMap<(&'static str, String), Option<SignedText>>;

/// An unbind request that a homeserver signed.
pub struct SignedRequest {
    /// The `Authorization` headers, one for each key that signed.
    pub authorizations: Vec<XMatrix>,
    /// Where the request came from.
    pub caller: Network,
    /// The requested path, exactly as the homeserver signed it.
    pub uri: String,
    /// The body.
    pub content: Value,
}

/// Succeeds if one of the signatures is valid, and otherwise tells what is wrong with the first.
pub(super) async fn verify(core: &Core, request: &SignedRequest, user_id: &UserId) -> Result<(), Failure> {
    let mut first = None;
    let mut texts = SignedTexts::new();
    for authorization in request.authorizations.iter().take(MAX_SIGNATURES) {
        match verify_one(core, request, authorization, user_id, &mut texts).await {
            Ok(()) => return Ok(()),
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    Err(first.unwrap_or(Refusal::Forbidden("The request has no signature").into()))
}

async fn verify_one(
    core: &Core,
    request: &SignedRequest,
    authorization: &XMatrix,
    user_id: &UserId,
    texts: &mut SignedTexts,
) -> Result<(), Failure> {
    if !authorization.speaks_for(user_id) {
        return Err(Refusal::Forbidden("A homeserver can speak for its own users only").into());
    }
    let names = core.names.iter().map(String::as_str);
    // Older homeservers omit the destination from the header, but not from the object that they sign.
    let destinations: Vec<&str> = match authorization.destination.as_deref() {
        Some(named) => names.filter(|own| *own == named).collect(),
        None => names.collect(),
    };
    if destinations.is_empty() {
        return Err(Refusal::WrongDestination.into());
    }
    let keys = core.homeservers.signing_keys(&authorization.origin, &authorization.key, request.caller).await;
    let keys = keys.map_err(|error| match error {
        HomeserverError::Refused => Refusal::Forbidden("The homeserver does not publish its keys"),
        HomeserverError::Unreachable => Refusal::HomeserverUnreachable(authorization.origin.to_string()),
        HomeserverError::Busy => busy(core),
    })?;
    // In requests to identity servers, Synapse names the member `destination_is`.
    let mut forms = destinations.iter().flat_map(|name| [("destination_is", *name), ("destination", *name)]);
    let verified = keys.get(&authorization.key).is_some_and(|key| {
        forms.any(|(member, destination)| {
            // All signatures speak for the same homeserver, so they sign the same texts.
            let text = texts.entry((member, destination.to_owned())).or_insert_with(|| {
                let form = (member, destination);
                let object = authorization.signed_object("POST", &request.uri, form, &request.content);
                SignedText::of(&object).ok()
            });
            text.as_ref().is_some_and(|text| text.is_signed_by(key, &authorization.signature))
        })
    });
    if verified {
        Ok(())
    } else {
        Err(Refusal::Forbidden("The signature of the homeserver is not valid").into())
    }
}
