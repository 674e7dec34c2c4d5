//! Parses phone numbers as people write them into E.164 digits, by the rules of libphonenumber (ITU-T
//! E.164).

use phonenumber::{Mode, PhoneNumber as Parsed, Type, country, metadata::DATABASE};

use super::{threepid::Address, typed_number::in_ascii};

/// The longest text that is parsed, in characters; no written number is longer.
const MAX_CHARS: usize = 40;

/// Calling codes that belong to no country: satellites, global networks and global services (ITU-T E.164, list
/// of assigned country codes). A message to some of them costs dollars.
const OF_NO_COUNTRY: [u16; 9] = [800, 808, 870, 878, 881, 882, 883, 888, 979];

/// A number that is valid in the numbering plan of its country and can receive messages.
#[derive(Clone)]
pub struct PhoneNumber {
    address: Address,
    calling_code: u16,
    region: Option<country::Id>,
    international: String,
}

impl std::fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PhoneNumber(..)")
    }
}

impl PhoneNumber {
    /// Parses a number as if it were dialled from `country` (ISO 3166-1, two letters). It may be in the national
    /// format or in the international one, which may name another country.
    ///
    /// `None` if it is not a valid number, has an extension, belongs to no country, or is of a kind that cannot
    /// receive messages or costs its callers extra.
    pub fn parse(number: &str, country: &str) -> Option<Self> {
        let country = parse_country(country)?;
        if number.chars().count() > MAX_CHARS {
            return None;
        }
        let number = in_ascii(number)?;
        let number = number.trim_start();
        let parsed = if number.starts_with('+') {
            phonenumber::parse(None, number).ok()?
        } else {
            dialled(number, country)?
        };
        Self::checked(&parsed)
    }

    fn checked(parsed: &Parsed) -> Option<Self> {
        let takes_messages = match parsed.number_type(&DATABASE) {
            Type::FixedLine | Type::Mobile | Type::FixedLineOrMobile | Type::Voip | Type::PersonalNumber => {
                true
            }
            // The library finds no kind for numbers that keep a leading zero when dialled from abroad, like those
            // of Italy and Ivory Coast.
            Type::Unknown => parsed.national().zeros() > 0,
            _ => false,
        };
        let has_country = !OF_NO_COUNTRY.contains(&parsed.code().value());
        if !has_country || !takes_messages || !parsed.is_valid() || parsed.extension().is_some() {
            return None;
        }
        let e164 = parsed.format().mode(Mode::E164).to_string();
        Some(Self {
            address: Address::msisdn(e164.strip_prefix('+')?)?,
            calling_code: parsed.code().value(),
            region: parsed.country().id(),
            international: parsed.format().mode(Mode::International).to_string(),
        })
    }

    /// The number as an address of medium `msisdn`.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The country calling code, such as 44. Several countries may share one.
    pub fn calling_code(&self) -> u16 {
        self.calling_code
    }

    /// The country (ISO 3166-1, two letters), if the number identifies one.
    pub fn region(&self) -> Option<&str> {
        self.region.as_ref().map(AsRef::as_ref)
    }

    /// The number in the international format: `+44 7911 123456`.
    pub fn international(&self) -> &str {
        &self.international
    }
}

/// Whether this is a country code (ISO 3166-1, two capital letters) whose numbering plan is known.
pub fn is_country(text: &str) -> bool {
    parse_country(text).is_some_and(|country| country.as_ref() == text)
}

fn parse_country(text: &str) -> Option<country::Id> {
    let country = text.to_ascii_uppercase().parse().ok()?;
    DATABASE.by_id(AsRef::<str>::as_ref(&country)).map(|_| country)
}

/// Parses a number without a plus sign.
fn dialled(number: &str, country: country::Id) -> Option<Parsed> {
    let own_code = DATABASE.by_id(country.as_ref())?.country_code();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    // The library takes these digits for the calling code even if the number is complete with them.
    if digits.starts_with(&own_code.to_string()) {
        let national = phonenumber::parse(None, format!("+{own_code}{digits}")).ok();
        if let Some(national) = national.filter(Parsed::is_valid) {
            return Some(national);
        }
    }
    let parsed = phonenumber::parse(Some(country), number).ok()?;
    if parsed.code().value() == own_code {
        return Some(parsed);
    }
    // The number began with this country's international prefix. The library parsed the rest by this country's
    // rules, so parse it again by those of the other country.
    (1..digits.len().min(6)).find_map(|prefix| {
        let abroad = phonenumber::parse(None, format!("+{}", &digits[prefix..])).ok()?;
        (abroad.code().value() == parsed.code().value() && abroad.is_valid()).then_some(abroad)
    })
}
