//! Properties of the parsers of untrusted text and of signed JSON, compared with ruma's implementation. The
//! generator's seed is fixed, so that every run has the same inputs.

use bindery::domain::{
    secret::Key32,
    server_name::{Host, ServerName},
    signing::{KeyPair, PublicKey, XMatrix},
};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    test_runner::RngSeed,
};
use ruma_common::{
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue, to_canonical_value},
    serde::Base64,
};
use ruma_signatures::{Ed25519KeyPair, PublicKeyMap, PublicKeySet, sign_json, verify_json};
use serde_json::{Map, Value, json};

const ENTITY: &str = "hs.test:8448";

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..Default::default() }
}

/// Pieces of headers and names in any order, so that parsers get far before they fail.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "X-Matrix ",
            "x-matrix",
            "origin",
            "key",
            "sig",
            "destination",
            "=",
            ",",
            "\"",
            "\\",
            " ",
            "\t",
            "hs.test",
            "127.0.0.1",
            "[::1]",
            "[",
            "]",
            ":",
            ".",
            "8448",
            "0x7f",
            "-",
            "é",
            "\0",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// A server name that the grammar allows, with its host and its port.
fn server_name() -> impl Strategy<Value = (Host, Option<u16>)> {
    let host = prop_oneof![
        "([a-zA-Z0-9-]{1,12}\\.){0,4}[a-zA-Z-][a-zA-Z0-9-]{0,20}"
            .prop_filter("a hexadecimal number", |host| {
                !host.rsplit('.').next().expect("a label").to_lowercase().starts_with("0x")
            })
            .prop_map(Host::Dns),
        any::<std::net::IpAddr>().prop_map(Host::Ip),
    ];
    (host, prop::option::of(1..=u16::MAX))
}

/// Any JSON that has a canonical form.
fn canonical_json() -> impl Strategy<Value = Value> {
    let most = (1_i64 << 53) - 1;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-most..=most).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map("\\PC{0,4}", inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("\\PC{0,4}", canonical_json(), 0..6).prop_map(|map| map.into_iter().collect())
}

fn signature<'a>(object: &'a Map<String, Value>, pair: &KeyPair) -> &'a str {
    object["signatures"][ENTITY][pair.id()].as_str().expect("a signature")
}

fn to_ruma(object: &Map<String, Value>) -> CanonicalJsonObject {
    match to_canonical_value(object).expect("a canonical object") {
        CanonicalJsonValue::Object(object) => object,
        _ => unreachable!("an object stays one"),
    }
}

/// ruma's key pair with this seed. ruma reads only the form of RFC 8410.
fn ruma_pair(seed: [u8; 32]) -> Ed25519KeyPair {
    let mut document = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    document.extend(seed);
    Ed25519KeyPair::from_der(&document, "0".to_owned()).expect("a key")
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn any_text_is_parsed_or_refused(text in prop_oneof![any::<String>(), pieces()]) {
        let _ = XMatrix::parse(&text);
        let _ = XMatrix::parse(&format!("X-Matrix {text}"));
        let _ = XMatrix::parse(&format!("X-Matrix origin=hs.test,key={text},sig=\"{text}\""));
        if let Some(name) = ServerName::parse(&text) {
            prop_assert_eq!(name.as_str(), &text);
            prop_assert_eq!(name.to_string(), text.as_str());
        }
        let _ = PublicKey::from_base64(&text);
    }

    #[test]
    fn a_server_name_is_its_host_and_its_port((host, port) in server_name()) {
        let mut text = match &host {
            Host::Ip(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            Host::Ip(address) => address.to_string(),
            Host::Dns(name) => name.clone(),
        };
        if let Some(port) = port {
            text = format!("{text}:{port}");
        }
        let name = ServerName::parse(&text).expect("a server name");
        prop_assert_eq!(name.as_str(), &text);
        prop_assert_eq!(name.host(), &host);
        prop_assert_eq!(name.port(), port);
    }

    #[test]
    fn a_header_gives_back_what_was_put_in(
        (host, port) in ("[a-z]{1,9}\\.test", prop::option::of(1..=u16::MAX)),
        values in ["\\PC{0,20}", "\\PC{0,20}", "\\PC{0,20}"],
    ) {
        let origin = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        let [destination, key, signature] = values;
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let header = format!(
            "X-Matrix origin={},destination={},key={},sig={}",
            quoted(&origin), quoted(&destination), quoted(&key), quoted(&signature),
        );
        let origin = ServerName::parse(&origin).expect("a name");
        let expected = XMatrix { origin, destination: Some(destination), key, signature };
        prop_assert_eq!(XMatrix::parse(&header), Some(expected));
    }
}

proptest! {
    #![proptest_config(config(48))]

    #[test]
    fn a_signature_holds_for_what_was_signed_and_nothing_else(
        object in object(),
        seed in any::<[u8; 32]>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 8),
    ) {
        let pair = KeyPair::new("ed25519:0", &Key32::new(seed));
        let mut signed = object.clone();
        pair.sign_json(ENTITY, &mut signed).expect("a canonical object");
        let signature = signature(&signed, &pair);
        prop_assert!(pair.public().verifies(&signed, signature));
        prop_assert!(pair.public().verifies(&object, signature), "the signature does not cover `signatures`");
        let mut annotated = signed.clone();
        annotated.insert("unsigned".to_owned(), json!({ "age": 1.5 }));
        prop_assert!(pair.public().verifies(&annotated, signature), "the signature does not cover `unsigned`");

        let key_again = PublicKey::from_base64(&pair.public().to_base64());
        prop_assert_eq!(key_again, Some(pair.public()));
        let mut other_seed = seed;
        other_seed[0] ^= 1;
        let other = KeyPair::new("ed25519:0", &Key32::new(other_seed));
        prop_assert!(!other.public().verifies(&signed, signature));

        let text = serde_json::to_vec(&object).expect("JSON");
        for (place, byte) in changes {
            let mut changed = text.clone();
            changed[place.index(text.len())] = byte;
            if let Ok(changed) = serde_json::from_slice::<Map<String, Value>>(&changed)
                && changed != object
            {
                prop_assert!(!pair.public().verifies(&changed, signature), "{changed:?}");
            }
        }
    }

    #[test]
    fn ruma_agrees(object in object(), seed in any::<[u8; 32]>()) {
        let pair = KeyPair::new("ed25519:0", &Key32::new(seed));
        let key = Base64::parse(pair.public().to_base64()).expect("base64");
        let keys = PublicKeyMap::from([(
            ENTITY.to_owned(),
            PublicKeySet::from([(pair.id().to_owned(), key)]),
        )]);
        let mut ours = object.clone();
        pair.sign_json(ENTITY, &mut ours).expect("a canonical object");
        prop_assert!(verify_json(&keys, &to_ruma(&ours)).is_ok());
        let mut changed = ours.clone();
        changed.insert("more".to_owned(), json!("something"));
        prop_assert!(verify_json(&keys, &to_ruma(&changed)).is_err());

        let mut theirs = to_ruma(&object);
        sign_json(ENTITY, &ruma_pair(seed), &mut theirs).expect("a canonical object");
        let theirs = serde_json::to_value(theirs).expect("JSON");
        let theirs = theirs.as_object().expect("an object");
        prop_assert!(pair.public().verifies(theirs, signature(theirs, &pair)));
        prop_assert_eq!(signature(theirs, &pair), signature(&ours, &pair), "ed25519 is deterministic");
    }
}

#[test]
fn what_has_no_canonical_form_is_neither_signed_nor_verified() {
    let pair = KeyPair::new("ed25519:0", &Key32::new([1; 32]));
    let signed_nothing = {
        let mut object = Map::new();
        pair.sign_json(ENTITY, &mut object).expect("a canonical object");
        signature(&object, &pair).to_owned()
    };
    for value in [json!(1.5), json!(1_u64 << 53), json!(-(1_i64 << 53)), json!([{ "a": 1e300 }])] {
        let mut object = Map::from_iter([("value".to_owned(), value)]);
        assert!(!pair.public().verifies(&object, &signed_nothing));
        pair.sign_json(ENTITY, &mut object).expect_err("it has no canonical form");
        assert!(!object.contains_key("signatures"));
    }
    for signatures in [json!("text"), json!({ ENTITY: "text" })] {
        let mut object = Map::from_iter([("signatures".to_owned(), signatures)]);
        pair.sign_json(ENTITY, &mut object).expect_err("there is no place for a signature");
    }
}
