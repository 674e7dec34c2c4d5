//! Serves Bindery's public keys, and tells whether a key is one of them.

use actix_web::{
    HttpRequest,
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, json};
use crate::{
    http::{
        State,
        body::{query, required},
    },
    ops::{invitation::sign, keys},
};

/// `GET /pubkey/{keyId}`
pub async fn key(state: Data<State>, key_id: Path<String>) -> Answer {
    let key = keys::public_key(&state.core, &key_id)?;
    json(json!({ "public_key": key.to_base64() }))
}

#[derive(Deserialize)]
struct PublicKey {
    public_key: Option<String>,
}

/// `GET /pubkey/isvalid`
pub async fn is_valid(state: Data<State>, request: HttpRequest) -> Answer {
    let key = required(query::<PublicKey>(&request)?.public_key, "public_key")?;
    json(json!({ "valid": keys::is_valid(&state.core, &key) }))
}

/// `GET /pubkey/ephemeral/isvalid`
pub async fn ephemeral_is_valid(state: Data<State>, request: HttpRequest) -> Answer {
    let key = required(query::<PublicKey>(&request)?.public_key, "public_key")?;
    json(json!({ "valid": sign::is_ephemeral_key(&state.core, &key)? }))
}
