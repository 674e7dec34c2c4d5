//! The document of a homeserver's signing keys, as it comes, and signed with one key that it names.
#![no_main]

use bindery::{
    domain::{secret::Key32, server_name::ServerName, signing::KeyPair, time::Millis},
    remote::homeservers::{MAX_KEYS, read_keys},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

const NOW: Millis = Millis(1);
const ID: &str = "ed25519:1";

fuzz_target!(|body: &[u8]| {
    let Ok(mut document) = serde_json::from_slice::<Map<String, Value>>(body) else { return };
    let server = ServerName::parse("hs.test").expect("a name");
    read_keys(&server, &document, NOW);

    let pair = KeyPair::new(ID, &Key32::new([7; 32]));
    document.insert("server_name".to_owned(), json!(server.as_str()));
    document.insert("valid_until_ts".to_owned(), json!(NOW.0 + 1));
    let keys = document.entry("verify_keys").or_insert_with(|| json!({}));
    let Value::Object(keys) = keys else { return };
    let named = json!({ "key": pair.public().to_base64() });
    keys.insert(ID.to_owned(), named);
    let is_read = keys.len() <= MAX_KEYS;
    if pair.sign_json(server.as_str(), &mut document).is_err() {
        return;
    }
    let read = read_keys(&server, &document, NOW);
    assert_eq!(read.is_some(), is_read);
    // Whatever else the document names, a key that did not sign it is left out.
    let read_ids = read.iter().flat_map(|(keys, _)| keys.keys());
    let signatures = &document["signatures"]["hs.test"];
    assert!(read_ids.into_iter().all(|id| signatures.get(id).is_some()));
});
