//! Lookups: the hashes of the specification, what matches and what does not, and that a Matrix ID never leads to
//! an address.

use bindery::domain::{
    lookup::{LookupHash, PEPPER_CHARS, pepper_from_random},
    threepid::{Address, Medium},
};
use proptest::prelude::*;
use reqwest::Method;
use serde_json::json;

use crate::support::{Server, hash, v2};

#[test]
fn the_hashes_of_the_specification() {
    for (medium, address, expected) in [
        (Medium::Email, "alice@example.com", "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"),
        (Medium::Email, "bob@example.com", "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8"),
        (Medium::Msisdn, "18005552067", "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I"),
    ] {
        let address = Address::parse(medium, address).expect("an address");
        assert_eq!(LookupHash::of(&address, "matrixrocks").to_base64(), expected);
        assert_eq!(hash(address.as_str(), medium.as_str(), "matrixrocks"), expected);
    }
}

#[test]
fn canonical_forms() {
    for (typed, canonical) in [
        ("alice@example.org", "alice@example.org"),
        ("Alice@Example.ORG", "alice@example.org"),
        ("Strau\u{df}@Example.com", "strauss@example.com"),
        ("a+tag@example.org", "a+tag@example.org"),
        ("a@xn--bcher-kva.example", "a@b\u{fc}cher.example"),
        ("a@B\u{dc}CHER.example", "a@b\u{fc}cher.example"),
        ("\u{391}\u{3a3}@example.org", "\u{3b1}\u{3c3}@example.org"),
        ("o'hara@example.org", "o'hara@example.org"),
        ("a@localhost", "a@localhost"),
        // Cherokee folds to upper case, so the folded form is not the lower case.
        ("a@xn--58d.example.org", "a@\u{13a0}.example.org"),
        ("a@\u{13a0}.example.org", "a@\u{13a0}.example.org"),
    ] {
        let address = Address::email(typed).unwrap_or_else(|| panic!("{typed} is an address"));
        assert_eq!(address.as_str(), canonical);
    }
    let idn = Address::email("a@b\u{fc}cher.example").expect("an address");
    assert_eq!(idn.smtp(), Some(("a", "xn--bcher-kva.example".to_owned())));
    assert_eq!(format!("{idn:?}"), "Address(..)");
}

proptest! {
    #[test]
    fn parsing_an_address_is_idempotent(text in "\\PC{1,20}@[\\PC.]{1,20}") {
        if let Some(address) = Address::email(&text) {
            let again = Address::email(address.as_str()).expect("a canonical address parses");
            prop_assert_eq!(again.as_str(), address.as_str());
            prop_assert_eq!(address.as_str().matches('@').count(), 1);
            prop_assert!(!address.as_str().chars().any(|c| c.is_control() || c.is_whitespace()));
        }
    }

    #[test]
    fn parsing_an_address_with_any_a_label_is_idempotent(label in "\\PC{1,6}", local in "[a-z\u{13a0}-\u{13ff}]{1,4}") {
        let (ascii, _) = idna::domain_to_unicode(&label);
        let spelled = idna::domain_to_ascii(&ascii).unwrap_or(label);
        if let Some(address) = Address::email(&format!("{local}@{spelled}.example.org")) {
            let again = Address::email(address.as_str()).expect("a canonical address parses");
            prop_assert_eq!(again.as_str(), address.as_str());
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let lossy = String::from_utf8_lossy(&bytes).into_owned();
        for text in [&text, &lossy] {
            let _ = Address::email(text);
            let _ = Address::msisdn(text);
            let _ = LookupHash::from_base64(text);
            let _ = bindery::domain::lookup::parse_clear(text);
            let _ = bindery::domain::ids::UserId::parse(text);
            let _ = bindery::domain::language::Language::wanted(text);
        }
    }

    #[test]
    fn a_hash_has_one_spelling(bytes in any::<[u8; 32]>(), other in "[A-Za-z0-9_-]{43}") {
        let hash = LookupHash(bytes);
        prop_assert!(LookupHash::from_base64(&hash.to_base64()) == Some(hash));
        if let Some(read) = LookupHash::from_base64(&other) {
            prop_assert_eq!(read.to_base64(), other);
        }
    }

    #[test]
    fn peppers_are_letters_and_digits(bytes in proptest::collection::vec(any::<u8>(), 64)) {
        if let Some(pepper) = pepper_from_random(&bytes) {
            prop_assert_eq!(pepper.len(), PEPPER_CHARS);
            prop_assert!(pepper.bytes().all(|b| b.is_ascii_alphanumeric()));
        }
    }
}

#[tokio::test]
async fn a_stale_pepper_tells_the_right_one() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    let pepper = server.get("/hash_details", &user).await.ok()["lookup_pepper"].clone();
    let body = json!({ "algorithm": "sha256", "pepper": "stale", "addresses": [] });
    let error = server.post("/lookup", &user, &body).await.refused(400, "M_INVALID_PEPPER");
    assert_eq!((&error["lookup_pepper"], &error["algorithm"]), (&pepper, &json!("sha256")));
}

#[tokio::test]
async fn only_exact_hashes_match() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    server.bind(&user, "alice@example.org", "secret").await;
    let pepper =
        server.get("/hash_details", &user).await.ok()["lookup_pepper"].as_str().expect("text").to_owned();
    let good = hash("alice@example.org", "email", &pepper);
    let escaped = good.replace('a', "\\u0061");
    let wrong = [
        "".to_owned(),
        "alice@example.org email".to_owned(),
        hash("Alice@Example.org", "email", &pepper),
        hash("alice@example.org", "msisdn", &pepper),
        hash("alice@example.org", "email", "other"),
        format!("{good}="),
        good[..42].to_owned(),
        "\u{fc}".repeat(43),
    ];
    let body = format!(
        r#"{{"algorithm":"sha256","pepper":"{pepper}","addresses":{}}}"#,
        serde_json::to_string(&wrong).expect("JSON").replace("[\"\"", &format!("[\"{escaped}\",\"\""))
    );
    let request = server.build(Method::POST, &v2("/lookup")).bearer_auth(&user.token).body(body);
    let reply = server.send(request).await.ok();
    assert_eq!(reply["mappings"], json!({ good: user.id }));
}

#[tokio::test]
async fn an_address_sent_twice_is_answered_once() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    server.bind(&user, "alice@example.org", "secret").await;
    let pepper =
        server.get("/hash_details", &user).await.ok()["lookup_pepper"].as_str().expect("text").to_owned();
    let hash = hash("alice@example.org", "email", &pepper);
    let body = json!({ "algorithm": "sha256", "pepper": pepper, "addresses": [hash, hash, hash] });
    let reply = server.post("/lookup", &user, &body).await;
    assert_eq!(reply.text.matches(&hash).count(), 1, "{}", reply.text);
}

#[tokio::test]
async fn the_clear_is_off_unless_the_operator_turns_it_on() {
    let server = Server::start().await;
    let user = server.user("alice").await;
    let details = server.get("/hash_details", &user).await.ok();
    assert_eq!(details["algorithms"], json!(["sha256"]));
    let body =
        json!({ "algorithm": "none", "pepper": details["lookup_pepper"], "addresses": ["a@b.c email"] });
    server.post("/lookup", &user, &body).await.refused(400, "M_INVALID_PARAM");

    let server = Server::start_with(|config| config.lookup.allow_none = true).await;
    let user = server.user("alice").await;
    server.bind(&user, "alice@example.org", "secret").await;
    let details = server.get("/hash_details", &user).await.ok();
    assert_eq!(details["algorithms"], json!(["sha256", "none"]));
    let addresses = [
        "alice@example.org email",
        "Alice@Example.org email",
        "alice@example.org msisdn",
        "alice@example.org",
        "",
    ];
    let body = json!({ "algorithm": "none", "pepper": details["lookup_pepper"], "addresses": addresses });
    let reply = server.post("/lookup", &user, &body).await.ok();
    assert_eq!(reply["mappings"], json!({ "alice@example.org email": user.id }));
}

#[tokio::test]
async fn no_more_addresses_than_the_operator_allows() {
    let server = Server::start_with(|config| config.lookup.max_addresses = 3).await;
    let user = server.user("alice").await;
    let pepper = server.get("/hash_details", &user).await.ok()["lookup_pepper"].clone();
    let body =
        |count: usize| json!({ "algorithm": "sha256", "pepper": pepper, "addresses": vec!["x"; count] });
    server.post("/lookup", &user, &body(3)).await.ok();
    server.post("/lookup", &user, &body(4)).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_binding_replaces_the_one_before_and_time_only_goes_forward() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let first = server.bind(&alice, "shared@example.org", "alices").await["ts"].as_u64().expect("a time");
    server.clock.back(std::time::Duration::from_secs(60));
    let second = server.bind(&bob, "shared@example.org", "bobs").await["ts"].as_u64().expect("a time");
    assert!(second > first);
    assert_eq!(server.find(&alice, "shared@example.org").await, Some(bob.id));
}

#[tokio::test]
async fn no_answer_leads_from_a_matrix_id_to_an_address() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let mallory = server.user("mallory").await;
    server.bind(&alice, "alice@example.org", "secret").await;
    // A homeserver can get a token in alice's name. It must not reveal her addresses either.
    let minted = server.register("alice").await;
    for path in ["", "/account", "/terms", "/hash_details", "/pubkey/ed25519:0"] {
        for user in [&mallory, &minted] {
            let reply = server.get(path, user).await;
            assert!(!reply.text.contains("alice@example.org"), "{path}: {}", reply.text);
        }
    }
    let threepid = json!({ "medium": "email", "address": "guess@example.org" });
    let body = json!({ "mxid": alice.id, "threepid": threepid });
    let reply = server.post("/3pid/unbind", &mallory, &body).await;
    assert!(!reply.text.contains("alice@example.org"));
}
