//! E-mail addresses, and whatever a person types on their own page.
#![no_main]

use bindery::domain::threepid::{Address, Medium};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for parsed in [Address::email(text), Address::msisdn(text), Address::typed(text)].into_iter().flatten() {
        let (medium, canonical) = (parsed.medium(), parsed.as_str());
        let again = Address::parse(medium, canonical).expect("the canonical form is an address");
        assert_eq!(again.as_str(), canonical);
        let Some((local, domain)) = parsed.smtp() else { continue };
        assert_eq!(medium, Medium::Email);
        assert!(domain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.'));
        // Nothing in it ends the command or the path in which the relay reads it.
        assert!(
            !local.contains(|c: char| c.is_control() || c.is_whitespace() || "<>@\"\\,;:()[]".contains(c))
        );
    }
});
