//! The languages of pages, mails and messages, and how a browser asks for one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A language, by its ISO 639-1 code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English
    #[default]
    En,
    /// French
    Fr,
    /// German
    De,
    /// Spanish
    Es,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 4] = [Self::En, Self::Fr, Self::De, Self::Es];

    /// The code, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Fr => "fr",
            Self::De => "de",
            Self::Es => "es",
        }
    }

    /// The name of the language in the language itself.
    pub fn own_name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Fr => "Français",
            Self::De => "Deutsch",
            Self::Es => "Español",
        }
    }

    /// Reads a code, or a longer tag that begins with one, like `de-AT`.
    pub fn parse(tag: &str) -> Option<Self> {
        let primary = tag.trim().split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.as_str().eq_ignore_ascii_case(primary))
    }

    /// The language that an `Accept-Language` header (RFC 9110 section 12.5.4) prefers among those of Bindery;
    /// `None` if it names none of them.
    pub fn wanted(accept_language: &str) -> Option<Self> {
        let mut wanted = Vec::new();
        for part in accept_language.split(',').take(16) {
            let (tag, quality) = part.split_once(';').unwrap_or((part, "q=1"));
            let quality = quality.trim().strip_prefix("q=").and_then(|quality| quality.parse::<f32>().ok());
            if let (Some(language), Some(quality)) =
                (Self::parse(tag), quality.filter(|q| *q > 0.0 && *q <= 1.0))
            {
                wanted.push((quality, language));
            }
        }
        // The first of several languages with the same quality wins.
        wanted.into_iter().rev().max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, language)| language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_language_wins_and_the_first_of_equals() {
        for (header, expected) in [
            ("de", Some(Language::De)),
            ("de-AT, en;q=0.9", Some(Language::De)),
            ("pt, fr;q=0.4, es;q=0.8", Some(Language::Es)),
            ("en, fr", Some(Language::En)),
            ("en;q=0, fr;q=0.1", Some(Language::Fr)),
            ("ja, zh;q=0.5", None),
            ("*", None),
            ("", None),
            (";q=,,;;q=NaN,de;q=9", None),
        ] {
            assert_eq!(Language::wanted(header), expected, "{header}");
        }
    }
}
