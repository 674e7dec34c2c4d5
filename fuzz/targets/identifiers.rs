//! Server names, Matrix IDs, room IDs and the other identifiers of the protocol.
#![no_main]

use bindery::domain::{
    ids::{ClientSecret, OpenIdToken, RoomId, Sid, Token, UserId},
    registrable::registrable_domain,
    server_name::{ServerName, host_key, is_at_or_below},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let name = ServerName::parse(text);
    assert_eq!(name.is_some(), ServerName::is_valid(text));
    if let Some(name) = name {
        assert_eq!(name.as_str(), text);
        assert!(is_at_or_below(text, text));
        let counted = registrable_domain(text);
        assert!(!counted.is_empty() && counted == registrable_domain(&text.to_ascii_lowercase()));
    }
    // Limits count by these for text that is no server name, too.
    host_key(text);
    registrable_domain(text);
    if let Some(id) = UserId::parse(text) {
        assert!(UserId::kept(text).is_some() && ServerName::is_valid(id.server_name()));
        assert_eq!(format!("@{}:{}", id.localpart(), id.server_name()), text);
    }
    if RoomId::parse(text).is_some() {
        assert!(RoomId::kept(text).is_some());
    }
    assert_eq!(ClientSecret::parse(text).is_some(), Sid::parse(text).is_some());
    if Token::parse(text).is_some() {
        assert!(OpenIdToken::parse(text).is_some());
    }
});
