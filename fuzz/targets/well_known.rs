//! The `.well-known/matrix/server` of a host: the value of `Cache-Control`, a line break, the body.
#![no_main]

use bindery::remote::{
    discovery::{MAX_WELL_KNOWN_LIFETIME, read_well_known},
    fetch::Response,
};
use libfuzzer_sys::fuzz_target;
use reqwest::{
    StatusCode,
    header::{CACHE_CONTROL, HeaderMap, HeaderValue},
};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (value, body) = input.split_at(end);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(CACHE_CONTROL, value);
    }
    let response = Response { status: StatusCode::OK, headers, body: body.to_vec() };
    if let Some((_, lifetime)) = read_well_known(&response) {
        assert!(lifetime <= MAX_WELL_KNOWN_LIFETIME);
    }
});
