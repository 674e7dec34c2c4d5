//! Signs associations, and answers questions about the server's signing keys (specification, Identity Service
//! API, "Key management").

use serde_json::{Map, Value};

use super::Core;
use crate::domain::{
    association::Association,
    refusal::Refusal,
    signing::{KeyPair, PublicKey},
};

/// The identifier of the key that signs.
pub fn current_id(core: &Core) -> &str {
    core.signing_keys[0].id()
}

/// The public key with this identifier. Retired keys are included.
///
/// # Errors
/// `NotFound`.
pub fn public_key(core: &Core, id: &str) -> Result<PublicKey, Refusal> {
    let pair = core.signing_keys.iter().find(|pair| pair.id() == id);
    pair.map(KeyPair::public).ok_or(Refusal::NotFound("There is no key with this identifier"))
}

/// Whether this is one of the server's long-term keys, in any base64 spelling.
pub fn is_valid(core: &Core, public_key: &str) -> bool {
    let Some(asked) = PublicKey::from_base64(public_key) else { return false };
    core.signing_keys.iter().any(|pair| pair.public() == asked)
}

/// The association as JSON, signed with the current key.
pub fn sign_association(core: &Core, association: &Association) -> Map<String, Value> {
    let Value::Object(mut object) = association.to_json() else {
        unreachable!("an association is an object")
    };
    let signed = core.signing_keys[0].sign_json(&core.config.server_name, &mut object);
    signed.expect("an association has a canonical form");
    object
}
