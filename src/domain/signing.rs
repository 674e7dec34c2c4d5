//! Signs and verifies JSON with ed25519 keys (specification, appendix "Signing JSON"), and parses X-Matrix
//! headers.
//!
//! ruma makes the canonical JSON and ed25519-dalek the signature; this module wraps them in Bindery's types.

use std::collections::BTreeMap;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use ruma_common::canonical_json::to_canonical_value;
use serde_json::{Map, Value, json};

use super::{ids::UserId, secret::Key32, server_name::ServerName};

/// The identifier of Bindery's first key. Existing identity servers verify no other identifier.
pub const FIRST_KEY_ID: &str = "ed25519:0";

/// A key pair with its identifier, `ed25519:...`.
pub struct KeyPair {
    id: String,
    key: SigningKey,
}

impl KeyPair {
    /// Derives the pair from its 32-byte seed.
    pub fn new(id: &str, seed: &Key32) -> Self {
        Self { id: id.to_owned(), key: SigningKey::from_bytes(seed.expose()) }
    }

    /// Reads a private key in either base64 alphabet, padded or not; `None` if it is not one.
    pub fn from_private_base64(id: &str, text: &str) -> Option<Self> {
        Some(Self::new(id, &seed_from_base64(text)?))
    }

    /// `ed25519:...`
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The private key in unpadded URL-safe base64. An invitation's mail carries it.
    pub fn private_base64(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.to_bytes())
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// Signs `object` as `name` and adds the signature to its `signatures`.
    ///
    /// # Errors
    /// `NotCanonical` if the object has no canonical form (a number that is not an integer of 53 bits), or if
    /// its `signatures` are not objects.
    pub fn sign_json(&self, name: &str, object: &mut Map<String, Value>) -> Result<(), NotCanonical> {
        let signature = self.key.sign(canonical_for_signing(object)?.as_bytes());
        let signatures = object.entry("signatures").or_insert_with(|| json!({}));
        let Value::Object(signatures) = signatures else { return Err(NotCanonical) };
        let own = signatures.entry(name).or_insert_with(|| json!({}));
        let Value::Object(own) = own else { return Err(NotCanonical) };
        own.insert(self.id.clone(), json!(STANDARD_NO_PAD.encode(signature.to_bytes())));
        Ok(())
    }
}

/// The object has no canonical form, so it cannot be signed.
#[derive(Debug, PartialEq, Eq)]
pub struct NotCanonical;

/// An ed25519 public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads 32 bytes in either base64 alphabet, padded or not; `None` if they are not a key.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = decode_any_base64(text)?.try_into().ok()?;
        VerifyingKey::from_bytes(&bytes).ok().map(Self)
    }

    /// The 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Unpadded standard base64, as the specification writes keys.
    pub fn to_base64(&self) -> String {
        STANDARD_NO_PAD.encode(self.0.as_bytes())
    }

    /// Whether `signature` (base64) over the canonical form of `object`, without its `signatures`
    /// and `unsigned`, was made with this key.
    pub fn verifies(&self, object: &Map<String, Value>, signature: &str) -> bool {
        // The canonical form costs more than anything else here.
        decode_signature(signature).is_some()
            && SignedText::of(object).is_ok_and(|text| text.is_signed_by(self, signature))
    }
}

/// What a signature of an object signs: its canonical form, without its `signatures` and `unsigned`.
pub struct SignedText(String);

impl SignedText {
    /// Makes it once for all signatures of `object`: it costs milliseconds for a large one.
    ///
    /// # Errors
    /// `NotCanonical` if the object has no canonical form.
    pub fn of(object: &Map<String, Value>) -> Result<Self, NotCanonical> {
        canonical_for_signing(object).map(Self)
    }

    /// Whether `signature` (base64) was made with this key.
    pub fn is_signed_by(&self, key: &PublicKey, signature: &str) -> bool {
        decode_signature(signature)
            .is_some_and(|signature| key.0.verify_strict(self.0.as_bytes(), &signature).is_ok())
    }
}

fn decode_signature(text: &str) -> Option<Signature> {
    let bytes: [u8; 64] = decode_any_base64(text)?.try_into().ok()?;
    Some(Signature::from_bytes(&bytes))
}

/// The public keys of a homeserver by identifier.
pub type PublicKeys = BTreeMap<String, PublicKey>;

/// Reads the seed of a key, 32 bytes in either base64 alphabet, padded or not.
pub fn seed_from_base64(text: &str) -> Option<Key32> {
    decode_any_base64(text)?.try_into().ok().map(Key32::new)
}

/// Reads base64 in the standard or URL-safe alphabet, padded or not.
fn decode_any_base64(text: &str) -> Option<Vec<u8>> {
    let standard: String = text
        .trim_end_matches('=')
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    STANDARD_NO_PAD.decode(standard).ok()
}

fn canonical_for_signing(object: &Map<String, Value>) -> Result<String, NotCanonical> {
    let mut signed = object.clone();
    signed.remove("signatures");
    signed.remove("unsigned");
    Ok(to_canonical_value(&signed).map_err(|_| NotCanonical)?.to_string())
}

/// A parsed X-Matrix header: it claims that a homeserver signed the request (specification, Server-Server API,
/// "Request Authentication"). Nothing is verified yet.
#[derive(Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// The homeserver that the header names as the signer.
    pub origin: ServerName,
    /// The server that the homeserver addressed; older homeservers do not send it.
    pub destination: Option<String>,
    /// The identifier of the key.
    pub key: String,
    /// The signature, base64.
    pub signature: String,
}

impl XMatrix {
    /// Parses the value of an `Authorization` header (RFC 9110 section 11.4); `None` if the scheme is another
    /// one, or if the value is malformed or repeats a parameter.
    pub fn parse(header: &str) -> Option<Self> {
        let scheme_length = "x-matrix".len();
        let (scheme, rest) = header.split_at_checked(scheme_length)?;
        if !scheme.eq_ignore_ascii_case("x-matrix") || !rest.starts_with(' ') {
            return None;
        }
        let mut parameters = parse_parameters(rest.trim_start_matches(' '))?;
        Some(Self {
            origin: ServerName::parse(&parameters.remove("origin")?)?,
            destination: parameters.remove("destination"),
            key: parameters.remove("key")?,
            signature: parameters.remove("sig")?,
        })
    }

    /// The JSON that the homeserver signed for this request. The member that names the identity server is
    /// `destination_is` in Synapse and `destination` in the specification, so its name is an argument.
    pub fn signed_object(
        &self,
        method: &str,
        uri: &str,
        (member, destination): (&str, &str),
        content: &Value,
    ) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("method".to_owned(), json!(method));
        object.insert("uri".to_owned(), json!(uri));
        object.insert("origin".to_owned(), json!(self.origin.as_str()));
        object.insert("content".to_owned(), content.clone());
        object.insert(member.to_owned(), json!(destination));
        object
    }

    /// Whether `user` is an account of the signing homeserver.
    pub fn speaks_for(&self, user: &UserId) -> bool {
        user.is_on(&self.origin)
    }
}

/// Parses `name=value` pairs separated by commas. A value is a token or a quoted string.
fn parse_parameters(text: &str) -> Option<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_matches([' ', '\t']).to_ascii_lowercase();
        let (value, after) = parse_value(after.trim_start_matches([' ', '\t']))?;
        if name.is_empty() || parameters.insert(name, value).is_some() {
            return None;
        }
        let after = after.trim_start_matches([' ', '\t']);
        if after.is_empty() {
            return Some(parameters);
        }
        rest = after.strip_prefix(',')?;
    }
}

fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}
