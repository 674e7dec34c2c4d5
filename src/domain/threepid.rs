//! Third-party identifiers: parses email addresses and phone numbers into their canonical form.
//!
//! Clients hash the canonical form, and Bindery stores and looks up the same (specification, appendix "3PID
//! Types"). Addresses never print themselves.

use icu_casemap::CaseMapper;
use serde::{Deserialize, Serialize};

use super::{characters::is_invisible, secret::redacted, typed_number::in_ascii};

/// The longest email address in characters: the limit that homeservers use. RFC 5321 allows 254 bytes on the
/// wire.
pub const MAX_EMAIL_CHARS: usize = 500;

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Medium {
    /// `email`
    Email,
    /// `msisdn`: a phone number, digits only.
    Msisdn,
}

impl Medium {
    /// Parses the name of a medium, in lower case as the specification writes it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "email" => Some(Self::Email),
            "msisdn" => Some(Self::Msisdn),
            _ => None,
        }
    }

    /// The specification's name of the medium.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Msisdn => "msisdn",
        }
    }

    /// The first byte of keys in the store. Never reuse a number.
    pub fn number(self) -> u8 {
        match self {
            Self::Email => 1,
            Self::Msisdn => 2,
        }
    }

    /// The medium with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Email, Self::Msisdn].into_iter().find(|medium| medium.number() == number)
    }
}

/// A canonical address of one medium.
#[derive(Clone)]
pub struct Address {
    medium: Medium,
    text: String,
}

impl Address {
    /// Parses an address of `medium` into its canonical form; `None` if it is invalid.
    pub fn parse(medium: Medium, text: &str) -> Option<Self> {
        match medium {
            Medium::Email => Self::email(text),
            Medium::Msisdn => Self::msisdn(text),
        }
    }

    /// Restores a stored address without parsing it again, so that stored addresses stay valid when the rules
    /// change.
    pub fn kept(medium: Medium, text: &str) -> Self {
        Self { medium, text: text.to_owned() }
    }

    /// Parses what a person types: an email address, or a phone number with its country code,
    /// with or without `+`, spaces, dots, hyphens and brackets, in the digits of any script.
    pub fn typed(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.contains('@') {
            return Self::email(text);
        }
        let text = in_ascii(text)?;
        let text = text.trim();
        let number = text.strip_prefix('+').or_else(|| text.strip_prefix("00")).unwrap_or(text);
        let is_filler = |c: char| matches!(c, ' ' | '.' | '-' | '(' | ')' | '/');
        let digits: String = number.chars().filter(|c| !is_filler(*c)).collect();
        Self::msisdn(&digits)
    }

    /// Parses an email address: one unquoted `@`, no display name, no comment, no control
    /// character. The local part is case-folded; the domain becomes lower-case U-labels.
    pub fn email(text: &str) -> Option<Self> {
        if text.chars().count() > MAX_EMAIL_CHARS {
            return None;
        }
        let (local, domain) = text.split_once('@')?;
        let local = canonical_local_part(local)?;
        let domain = canonical_domain(domain)?;
        let text = format!("{local}@{domain}");
        (text.chars().count() <= MAX_EMAIL_CHARS).then_some(Self { medium: Medium::Email, text })
    }

    /// Parses a phone number in international form without its `+`: 5 to 15 digits that do
    /// not begin with a zero (E.164).
    pub fn msisdn(text: &str) -> Option<Self> {
        let ok = (5..=15).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && !text.starts_with('0');
        ok.then(|| Self { medium: Medium::Msisdn, text: text.to_owned() })
    }

    /// The medium of the address.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part and the domain for SMTP, with the domain as A-labels (RFC 5890). `None` for a phone
    /// number, if the domain has no A-labels, or if the address is longer than a path may be (254 bytes, RFC 5321
    /// section 4.5.3.1.3): no mail could ever be sent to it.
    pub fn smtp(&self) -> Option<(&str, String)> {
        let (local, domain) = self.text.split_once('@')?;
        let domain = idna::domain_to_ascii_strict(domain).ok()?;
        (local.len() + 1 + domain.len() <= 254).then_some((local, domain))
    }
}

redacted!(Address);

/// Characters that a local part may have beside letters and digits (RFC 5322, `atext`).
const ATEXT_SYMBOLS: &[u8] = b"!#$%&'*+-/=?^_`{|}~";

fn canonical_local_part(local: &str) -> Option<String> {
    let character_ok = |c: char| match u8::try_from(c) {
        Ok(b) if b.is_ascii() => b.is_ascii_alphanumeric() || ATEXT_SYMBOLS.contains(&b),
        // Two different addresses must not look the same. A replacement character stands for text that was lost.
        _ => !c.is_whitespace() && !is_invisible(c) && c != char::REPLACEMENT_CHARACTER,
    };
    let shape_ok =
        |text: &str| text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(character_ok));
    if !shape_ok(local) {
        return None;
    }
    let folded = fold_to_fixpoint(local);
    // RFC 6531 allows 64 bytes for the local part.
    (folded.len() <= 64 && shape_ok(&folded)).then_some(folded)
}

/// Full case folding (Unicode, section 3.13), repeated until the text no longer changes: folding a folded text
/// may change it again.
fn fold_to_fixpoint(text: &str) -> String {
    let mapper = CaseMapper::new();
    let mut folded = mapper.fold_string(text).into_owned();
    loop {
        let again = mapper.fold_string(&folded).into_owned();
        if again == folded {
            return folded;
        }
        folded = again;
    }
}

fn canonical_domain(domain: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || !c.is_ascii();
    if !domain.chars().all(allowed) {
        return None;
    }
    // A domain whose folded form differs from its lower case would name another host, so refuse it. Accept a
    // domain that is folded already, whatever its lower case: Cherokee folds to upper case.
    let folded = CaseMapper::new().fold_string(domain);
    if folded != domain && folded != domain.to_lowercase() {
        return None;
    }
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    let (unicode, result) = idna::domain_to_unicode(&ascii);
    result.ok()?;
    let names_a_host = ascii.split('.').all(|label| !label.is_empty())
        && !ascii.rsplit('.').next()?.bytes().all(|b| b.is_ascii_digit());
    let stable = idna::domain_to_ascii_strict(&unicode).ok()? == ascii
        && CaseMapper::new().fold_string(&unicode) == unicode;
    (stable && names_a_host && ascii.len() <= 253).then_some(unicode)
}
