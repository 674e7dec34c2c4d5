//! Telephone numbers as people of many countries write them.

use bindery::domain::{phone::PhoneNumber, threepid::Address};
use phonenumber::metadata::DATABASE;
use proptest::prelude::*;

/// Country, a number as it is written there, and its digits.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("AE", "050 123 4567", "971501234567"),
    ("AR", "011 15-2345-6789", "5491123456789"),
    ("AT", "0664 123456", "43664123456"),
    ("AU", "0412 345 678", "61412345678"),
    ("BD", "01812-345678", "8801812345678"),
    ("BE", "0470 12 34 56", "32470123456"),
    ("BG", "043 012 345", "35943012345"),
    ("BR", "(11) 96123-4567", "5511961234567"),
    ("CA", "(506) 234-5678", "15062345678"),
    ("CH", "078 123 45 67", "41781234567"),
    ("CG", "06 123 4567", "242061234567"),
    ("CI", "01 23 45 67 89", "2250123456789"),
    ("CL", "(2) 2123 4567", "56221234567"),
    ("CN", "131 2345 6789", "8613123456789"),
    ("CO", "321 1234567", "573211234567"),
    ("CZ", "601 123 456", "420601123456"),
    ("DE", "01512 3456789", "4915123456789"),
    ("DE", "030/123456", "4930123456"),
    ("DK", "34 41 23 45", "4534412345"),
    ("EE", "5123 4567", "37251234567"),
    ("EG", "0100 123 4567", "201001234567"),
    ("ES", "612 34 56 78", "34612345678"),
    ("FI", "041 2345678", "358412345678"),
    ("FR", "06 12 34 56 78", "33612345678"),
    ("GB", "07400 123456", "447400123456"),
    ("GB", "(0121) 234 5678", "441212345678"),
    ("GR", "691 234 5678", "306912345678"),
    ("HK", "5123 4567", "85251234567"),
    ("HR", "092 123 4567", "385921234567"),
    ("HU", "06 20 123 4567", "36201234567"),
    ("ID", "0812-345-678", "62812345678"),
    ("IE", "085 012 3456", "353850123456"),
    ("IL", "050-234-5678", "972502345678"),
    ("IN", "081234 56789", "918123456789"),
    ("IT", "312 345 6789", "393123456789"),
    ("JP", "090-1234-5678", "819012345678"),
    ("KE", "0712 123456", "254712123456"),
    ("KR", "010-2000-0000", "821020000000"),
    ("LT", "(0-612) 34567", "37061234567"),
    ("LU", "628 123 456", "352628123456"),
    ("MX", "222 123 4567", "522221234567"),
    ("MY", "012-345 6789", "60123456789"),
    ("NG", "0802 123 4567", "2348021234567"),
    ("NL", "06 12345678", "31612345678"),
    ("NO", "406 12 345", "4740612345"),
    ("NZ", "021 123 4567", "64211234567"),
    ("PH", "0905 123 4567", "639051234567"),
    ("PK", "0301 2345678", "923012345678"),
    ("PL", "512 345 678", "48512345678"),
    ("PT", "912 345 678", "351912345678"),
    ("RO", "0712 034 567", "40712034567"),
    ("RS", "060 1234567", "381601234567"),
    ("RU", "8 (912) 345-67-89", "79123456789"),
    ("SA", "051 234 5678", "966512345678"),
    ("SE", "070-123 45 67", "46701234567"),
    ("SG", "8123 4567", "6581234567"),
    ("SI", "031 234 567", "38631234567"),
    ("SK", "0912 123 456", "421912123456"),
    ("TH", "081 234 5678", "66812345678"),
    ("TR", "0501 234 56 78", "905012345678"),
    ("TW", "0912 345 678", "886912345678"),
    ("UA", "050 123 4567", "380501234567"),
    ("US", "(201) 555-0123", "12015550123"),
    ("US", "1-201-555-0123", "12015550123"),
    ("VN", "0912 345 678", "84912345678"),
    ("ZA", "071 123 4567", "27711234567"),
];

fn digits(number: &str, country: &str) -> Option<String> {
    PhoneNumber::parse(number, country).map(|number| number.address().as_str().to_owned())
}

#[test]
fn each_country_writes_its_own_numbers() {
    let wrong: Vec<_> = NUMBERS
        .iter()
        .map(|(country, number, expected)| (country, number, expected, digits(number, country)))
        .filter(|(.., expected, found)| found.as_deref() != Some(**expected))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut countries: Vec<_> = NUMBERS.iter().map(|(country, ..)| country).collect();
    countries.dedup();
    assert!(countries.len() >= 30, "{}", countries.len());
}

#[test]
fn every_country_writes_them_to_foreigners_as_well() {
    for (country, _, expected) in NUMBERS {
        let number = PhoneNumber::parse(&format!("+{expected}"), "CH").expect("a number");
        assert_eq!(number.address().as_str(), *expected);
        assert_eq!(number.region(), Some(*country), "{expected}");
        let abroad = number.international().to_owned();
        assert!(abroad.starts_with(&format!("+{} ", number.calling_code())), "{abroad}");
        assert_eq!(digits(&abroad, country).as_deref(), Some(*expected), "{abroad}");
    }
}

#[test]
fn what_leads_out_of_a_country_leads_to_the_other() {
    for (number, country, expected) in [
        ("0044 7400 123456", "DE", "447400123456"),
        ("011 44 7400 123456", "US", "447400123456"),
        ("02 1234 5678", "IT", "390212345678"),
        ("00 39 02 1234 5678", "FR", "390212345678"),
        ("+44 (0)7400 123456", "GB", "447400123456"),
        ("+44 (0)7400 123456", "DE", "447400123456"),
        ("\u{a0}07400\u{a0}123456", "gb", "447400123456"),
    ] {
        assert_eq!(digits(number, country).as_deref(), Some(expected), "{number}");
    }
}

#[test]
fn a_national_number_may_begin_with_its_own_calling_code() {
    for (country, number, expected) in [
        ("BR", "55967228964", "5555967228964"),
        ("DK", "45123456", "4545123456"),
        ("IN", "9123456789", "919123456789"),
        ("IN", "919123456789", "919123456789"),
        ("IN", "09123456789", "919123456789"),
        ("IT", "3921234567", "393921234567"),
        ("IT", "393121234567", "393121234567"),
        ("KZ", "7011234567", "77011234567"),
        ("KZ", "8 701 123 4567", "77011234567"),
        ("NO", "47123456", "4747123456"),
    ] {
        assert_eq!(digits(number, country).as_deref(), Some(expected), "{number} {country}");
    }
}

#[test]
fn what_people_paste_and_type_in_their_script() {
    for (number, country, expected) in [
        ("\u{202d}+44 7400 123456\u{202c}", "DE", "447400123456"),
        ("\u{200e}07400\u{2011}123456", "GB", "447400123456"),
        ("07400\u{2009}123\u{202f}456", "GB", "447400123456"),
        ("07400\u{2013}123456", "GB", "447400123456"),
        ("\u{ff10}\u{ff17}\u{ff14}\u{ff10}\u{ff10}\u{3000}\u{ff11}23456", "GB", "447400123456"),
        ("\u{ff0b}44\u{ff08}0\u{ff09}7400\u{ff0d}123456", "JP", "447400123456"),
        (
            "\u{660}\u{661}\u{660}\u{660}\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\u{667}",
            "EG",
            "201001234567",
        ),
        ("\u{6f0}9123456789", "IR", "989123456789"),
        ("\u{96f}123456789", "IN", "919123456789"),
    ] {
        assert_eq!(digits(number, country).as_deref(), Some(expected), "{number:?}");
    }
}

#[test]
fn what_is_no_number() {
    for (number, country) in [
        ("", "GB"),
        ("+", "GB"),
        ("0", "GB"),
        ("7", "GB"),
        ("07400 12345", "GB"),
        ("07400 1234567", "GB"),
        ("07400 123456", "US"),
        ("07400 123456", "ZZ"),
        ("07400 123456", ""),
        ("07400 123456", "GBR"),
        ("07400 123456", "G"),
        ("07400 123456", "\u{1f600}"),
        ("0800 FLOWERS", "GB"),
        ("07400 123456 ext. 5", "GB"),
        ("07400 123456;ext=5", "GB"),
        ("tel:+447400123456", "GB"),
        ("\u{661}\u{662}\u{663}\u{664}", "EG"),
        ("07400 123456\u{0}", "GB"),
        ("07400 12345\u{2166}", "GB"),
        ("\u{2461}7400 123456", "GB"),
        ("07400\n123456", "GB"),
        ("+999 12345678", "GB"),
        // Calls and messages to these cost extra, or the numbers are not assigned.
        ("0909 879 0000", "GB"),
        ("0800 1111", "GB"),
        ("1-900-234-5678", "US"),
        ("+800 1234 5678", "GB"),
        // These belong to no country, but to satellites, global networks and global services.
        ("+870 773 111 632", "GB"),
        ("+878 10 123456789 0", "GB"),
        ("+881 612 345 678", "GB"),
        ("+882 16 12345678", "GB"),
        ("+882 34 56 78 90 12", "GB"),
        ("+883 510 012345", "GB"),
        ("+883 130 123 456 789", "GB"),
        ("+888 123 456 789 01", "GB"),
        ("+979 123 456 789", "GB"),
        ("00 881 612 345 678", "DE"),
        ("112", "DE"),
        ("911", "US"),
    ] {
        assert_eq!(digits(number, country), None, "{number} {country}");
    }
    assert_eq!(digits(&"1".repeat(10_000), "GB"), None);
    assert_eq!(digits(&format!("07400 123456{}", " ".repeat(100)), "GB"), None);
}

#[test]
fn numbers_do_not_print_themselves() {
    let number = PhoneNumber::parse("+447400123456", "GB").expect("a number");
    assert_eq!(format!("{number:?}"), "PhoneNumber(..)");
}

/// Every country with a numbering plan.
fn countries() -> Vec<(String, u16)> {
    let letters = || (b'A'..=b'Z').map(char::from);
    let codes = letters().flat_map(|first| letters().map(move |second| format!("{first}{second}")));
    codes.filter_map(|id| DATABASE.by_id(&id).map(|plan| (id, plan.country_code()))).collect()
}

#[test]
fn what_people_type_with_its_country_code_is_read_the_same() {
    for typed in [
        "+44 7400 123456",
        "0044 7400 123456",
        "\u{202d}+44\u{2011}7400\u{a0}123456\u{202c}",
        "\u{ff14}\u{ff14}7400123456",
    ] {
        let address = Address::typed(typed).expect("a number");
        assert_eq!(address.as_str(), "447400123456", "{typed:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]
    /// Every other number begins with the calling code of its country, which is the case that goes wrong.
    #[test]
    fn a_number_in_national_form_with_its_country_gives_its_digits(
        which in any::<prop::sample::Index>(),
        begins_with_code in any::<bool>(),
        tail in "[1-9][0-9]{3,9}",
    ) {
        let countries = countries();
        let (country, code) = which.get(&countries);
        let begin = if begins_with_code { code.to_string() } else { String::new() };
        let expected = format!("{code}{begin}{tail}");
        let international = format!("+{expected}");
        let Ok(parsed) = phonenumber::parse(None, &international) else { return Ok(()) };
        let own = PhoneNumber::parse(&international, country);
        // Countries share calling codes, and each writes only its own numbers in national form.
        let Some(own) = own.filter(|number| number.region() == Some(country.as_str())) else { return Ok(()) };
        // Where libphonenumber rewrites what is dialled (a 3 before the local numbers of Norfolk Island, the carrier
        // codes of Brazil), the table above has the numbers.
        prop_assume!(DATABASE.by_id(country).is_some_and(|plan| plan.national_prefix_transform_rule().is_none()));
        // A number that stays valid without what looks like the national prefix can be meant either way.
        let plan = DATABASE.by_id(country);
        let prefix = plan.and_then(|plan| plan.national_prefix_for_parsing());
        let dialled = format!("{begin}{tail}");
        let rest = prefix.and_then(|prefix| prefix.find(&dialled)).filter(|found| found.start() == 0);
        let shorter = rest.map(|found| format!("+{code}{}", &dialled[found.end()..]));
        prop_assume!(shorter.is_none_or(|shorter| PhoneNumber::parse(&shorter, country).is_none()));
        prop_assert_eq!(own.address().as_str(), expected.as_str());
        let national = parsed.format().mode(phonenumber::Mode::National).to_string();
        prop_assert_eq!(digits(&national, country), Some(expected), "{} {}", national, country);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn nothing_makes_it_panic(number in "(\\PC{0,30}|[+()0-9 ./-]{0,40})", country in "([A-Z]{2}|\\PC{0,3})") {
        if let Some(number) = PhoneNumber::parse(&number, &country) {
            // Parsing its own output gives the same number.
            let again = PhoneNumber::parse(&format!("+{}", number.address().as_str()), "US");
            prop_assert_eq!(again.map(|n| n.address().as_str().to_owned()), Some(number.address().as_str().to_owned()));
        }
    }
}
