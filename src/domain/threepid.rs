//! Third-party identifiers: a medium and an address that is canonical from the moment it is parsed.
//!
//! The canonical form is what clients hash, what is stored and what is looked up (specification,
//! appendix "3PID Types"). Addresses never print themselves.

use icu_casemap::CaseMapper;
use serde::{Deserialize, Serialize};

use super::secret::redacted;

/// The longest e-mail address in characters. RFC 5321 allows 254 bytes on the wire; this is the
/// limit that homeservers use.
pub const MAX_EMAIL_CHARS: usize = 500;

/// The namespace an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Medium {
    /// `email`
    Email,
    /// `msisdn`: a telephone number, digits only.
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

    /// The specification's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Msisdn => "msisdn",
        }
    }

    /// The number that keys of the store begin with. Never reuse one.
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
    /// Parses an address of `medium` into its canonical form; `None` if it is none.
    pub fn parse(medium: Medium, text: &str) -> Option<Self> {
        match medium {
            Medium::Email => Self::email(text),
            Medium::Msisdn => Self::msisdn(text),
        }
    }

    /// An address that was parsed before and kept. It is what it was then, whatever the rules say now.
    pub fn kept(medium: Medium, text: &str) -> Self {
        Self { medium, text: text.to_owned() }
    }

    /// Parses what a person types: an e-mail address, or a telephone number with its country code,
    /// with or without `+`, spaces, dots, hyphens and brackets.
    pub fn typed(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.contains('@') {
            return Self::email(text);
        }
        let number = text.strip_prefix('+').or_else(|| text.strip_prefix("00")).unwrap_or(text);
        let is_filler = |c: char| matches!(c, ' ' | '.' | '-' | '(' | ')' | '/' | '\u{a0}');
        let digits: String = number.chars().filter(|c| !is_filler(*c)).collect();
        Self::msisdn(&digits)
    }

    /// Parses an e-mail address: one unquoted `@`, no display name, no comment, no control
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

    /// Parses a telephone number in international form without its `+`: 5 to 15 digits that do
    /// not begin with a zero (E.164).
    pub fn msisdn(text: &str) -> Option<Self> {
        let ok = (5..=15).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit())
            && !text.starts_with('0');
        ok.then(|| Self { medium: Medium::Msisdn, text: text.to_owned() })
    }

    /// The medium it belongs to.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address as mail transport spells it, the domain as A-labels (RFC 5890); `None` for a
    /// telephone number or a domain that has no such form.
    pub fn smtp(&self) -> Option<String> {
        let (local, domain) = self.text.split_once('@')?;
        Some(format!("{local}@{}", idna::domain_to_ascii_strict(domain).ok()?))
    }
}

redacted!(Address);

/// Characters that a local part may hold beside letters and digits (RFC 5322, `atext`).
const ATEXT_SYMBOLS: &[u8] = b"!#$%&'*+-/=?^_`{|}~";

fn canonical_local_part(local: &str) -> Option<String> {
    let character_ok = |c: char| match u8::try_from(c) {
        Ok(b) if b.is_ascii() => b.is_ascii_alphanumeric() || ATEXT_SYMBOLS.contains(&b),
        _ => !c.is_control() && !c.is_whitespace() && !is_invisible(c),
    };
    let shape_ok =
        |text: &str| text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(character_ok));
    if !shape_ok(local) {
        return None;
    }
    let folded = fold_to_fixpoint(local);
    // RFC 6531 lets the local part have 64 bytes.
    (folded.len() <= 64 && shape_ok(&folded)).then_some(folded)
}

/// Characters without a shape of their own, with which two addresses could look the same.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x34F | 0x61C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
        | 0x202A..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0
        | 0xFFF0..=0xFFFF | 0xE0000..=0xE0FFF | 0xE000..=0xF8FF | 0xF0000..=0x10FFFF)
}

/// Full case folding (Unicode, section 3.13), repeated because folding a folded text may fold on.
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
    // A domain that folds to something else than its lower case would name another host. One that
    // is folded already is as it should be, whatever its lower case (Cherokee folds upwards).
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
