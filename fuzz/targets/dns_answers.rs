//! The answer of a DNS server, as hickory reads it and Bindery uses it.
#![no_main]

use bindery::remote::dns::targets;
use hickory_resolver::proto::op::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &[u8]| {
    let Ok(message) = Message::from_vec(answer) else { return };
    let records: Vec<_> = message.answers.iter().map(|record| record.data.clone()).collect();
    for service in targets(&records).unwrap_or_default() {
        assert!(!service.host.is_empty() && service.host.is_ascii());
    }
});
