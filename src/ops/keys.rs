//! The keys that others check our signatures with (specification, Identity Service API, "Key
//! management").

use serde_json::{Map, Value};

use super::Core;
use crate::domain::{
    association::Association,
    refusal::Refusal,
    signing::{KeyPair, PublicKey},
};

/// The public key with this identifier, retired keys included.
///
/// # Errors
/// `NotFound`.
pub fn public_key(core: &Core, id: &str) -> Result<PublicKey, Refusal> {
    let pair = core.signing_keys.iter().find(|pair| pair.id() == id);
    pair.map(KeyPair::public).ok_or(Refusal::NotFound("There is no key with this identifier"))
}

/// Whether this is a long-term key of ours, in any base64 spelling.
pub fn is_valid(core: &Core, public_key: &str) -> bool {
    let Some(asked) = PublicKey::from_base64(public_key) else { return false };
    core.signing_keys.iter().any(|pair| pair.public() == asked)
}

/// The association as this server vouches for it.
pub fn sign_association(core: &Core, association: &Association) -> Map<String, Value> {
    let Value::Object(mut object) = association.to_json() else {
        unreachable!("an association is an object")
    };
    let signed = core.signing_keys[0].sign_json(&core.config.server_name, &mut object);
    signed.expect("an association has a canonical form");
    object
}
