//! Telephone numbers with the country that a client sends: two bytes of the input, then the number.
#![no_main]

use bindery::domain::phone::{PhoneNumber, is_country};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Some((country, number)) = input.split_at_checked(2) else { return };
    is_country(country);
    let Some(parsed) = PhoneNumber::parse(number, country) else { return };
    let digits = parsed.address().as_str();
    assert!(digits.starts_with(&parsed.calling_code().to_string()));
    for same in [format!("+{digits}"), parsed.international().to_owned()] {
        let again = PhoneNumber::parse(&same, country).expect("the international form is a number");
        assert_eq!(again.address().as_str(), digits);
    }
});
