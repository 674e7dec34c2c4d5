//! The `Authorization` header of a homeserver.
#![no_main]

use bindery::domain::signing::{SignedText, XMatrix};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fuzz_target!(|header: &str| {
    let Some(parsed) = XMatrix::parse(header) else { return };
    let mut written = format!(
        "X-Matrix origin={},key={},sig={}",
        quoted(parsed.origin.as_str()),
        quoted(&parsed.key),
        quoted(&parsed.signature)
    );
    if let Some(destination) = &parsed.destination {
        written.push_str(&format!(",destination={}", quoted(destination)));
    }
    assert_eq!(XMatrix::parse(&written).as_ref(), Some(&parsed), "{written}");
    let object = parsed.signed_object("POST", "/", ("destination", "id.test"), &Value::Null);
    assert!(SignedText::of(&object).is_ok());
});
