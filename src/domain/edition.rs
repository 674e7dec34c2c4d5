//! The published editions of the privacy notice, and which of them people must have agreed to (design, P17).
//!
//! Only a change for the worse asks people for consent again. Each time the notice changes, Bindery adds an
//! edition and never deletes it. The rule:
//!
//! * Each version that was offered for consent is a promise: the facts of its edition. A promise is *kept* while
//!   the current facts are not worse than it. A person who agreed to a kept promise is not asked again, however
//!   often the facts changed in between.
//! * Bindery offers the last promise while it is kept, so that its URL, which apps remember, stays the same.
//!   Otherwise it offers the latest other promise that is kept, for example after the operator reverts a change.
//!   If no promise is kept, the current facts become a new promise.
//!
//! Facts are ordered ([`super::notice`]). So no person is held to facts worse than those that they agreed to,
//! and no person is asked without need.

use std::collections::BTreeMap;

use super::{
    language::Language,
    notice::{Facts, Version},
    time::Millis,
};

/// The texts of an edition, as HTML, in each language.
pub type Texts = BTreeMap<Language, String>;

/// A published edition of the notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edition {
    /// Its number: editions count from 1 in the order of publication.
    pub number: u64,
    /// The version of its facts. Editions that differ only in wording share it.
    pub version: Version,
    /// The version that Bindery offered for consent when this edition was published.
    pub consent: Version,
    /// When it was published.
    pub published: Millis,
    /// Its facts.
    pub facts: Facts,
}

impl Edition {
    /// The edition that comes after `history`.
    pub fn following(history: &[Self], facts: Facts, now: Millis) -> Self {
        let number = history.last().map_or(1, |last| last.number + 1);
        let consent = RequiredConsent::to(&facts, history).offered;
        Self { number, version: facts.version(), consent, published: now, facts }
    }
}

/// The versions that people must have agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredConsent {
    /// The version that Bindery offers for consent.
    pub offered: Version,
    /// Every version whose acceptance is enough, including the offered one.
    pub enough: Vec<Version>,
}

impl RequiredConsent {
    /// Decides what people must have agreed to, from the current facts and the published editions.
    pub fn to(facts: &Facts, history: &[Edition]) -> Self {
        let mut kept: Vec<Version> = Vec::new();
        for promise in history.iter().rev().filter(|edition| edition.version == edition.consent) {
            if !kept.contains(&promise.version) && !facts.are_worse_than(&promise.facts) {
                kept.push(promise.version.clone());
            }
        }
        let last = history.last().map(|edition| &edition.consent).filter(|last| kept.contains(last));
        let Some(offered) = last.or(kept.first()).cloned() else {
            let offered = facts.version();
            return Self { enough: vec![offered.clone()], offered };
        };
        Self { offered, enough: kept }
    }
}

/// How a URL names an edition: by its number, or by a version, which means the latest edition with that version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// The edition with this number.
    Number(u64),
    /// The latest edition with these facts.
    Version(Version),
}

impl Name {
    /// Reads a number of at most nine digits or a [`Version`]; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number = (1..=9).contains(&text.len())
            && !text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit());
        match is_number {
            true => text.parse().ok().map(Self::Number),
            false => Version::parse(text).map(Self::Version),
        }
    }

    /// The edition with this name, if there is one.
    pub fn find<'a>(&self, editions: &'a [Edition]) -> Option<&'a Edition> {
        editions.iter().rev().find(|edition| match self {
            Self::Number(number) => edition.number == *number,
            Self::Version(version) => edition.version == *version,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::domain::{
        notice::{Controller, LookupLog, Processor},
        retention::Period,
        secret::hex,
    };

    fn names(bits: u8) -> impl Iterator<Item = String> {
        (0..2).filter(move |bit| bits & (1 << bit) != 0).map(|bit| format!("n{bit}"))
    }

    fn facts() -> impl Strategy<Value = Facts> {
        let log = prop_oneof![Just(LookupLog::Off), Just(LookupLog::Summary), Just(LookupLog::Full)];
        (0u8..2, 0u8..4, log, 0u32..3, 0u32..3, 0u8..4, 0u8..2, 0usize..3, 0u8..2).prop_map(
            |(controller, peers, lookup_log, one, other, processors, purpose, country, imprint)| Facts {
                controller: Controller {
                    name: format!("c{controller}"),
                    imprint_url: "i".repeat(imprint.into()),
                    ..Controller::default()
                },
                peers: names(peers).collect(),
                lookup_log,
                periods: [(Period::LookupLog, one), (Period::Invitation, other)].into(),
                processors: names(processors)
                    .map(|name| Processor {
                        name,
                        purpose: purpose.to_string(),
                        url: String::new(),
                        country: ["", "a", "b"][country].to_owned(),
                    })
                    .collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn worse_is_an_order(a in facts(), b in facts(), c in facts()) {
            prop_assert!(!a.are_worse_than(&a));
            prop_assert!(a.are_worse_than(&b) || b.are_worse_than(&c) || !a.are_worse_than(&c));
            prop_assert_eq!(a == b, a.changes_since(&b).is_empty(), "every difference is listed");
            prop_assert_eq!(a == b, a.version() == b.version());
        }

        /// One person agrees to the offered version at some steps; the rule then decides whether to ask them
        /// again.
        #[test]
        fn nobody_is_held_to_worse_and_nobody_is_asked_without_need(
            steps in proptest::collection::vec((facts(), any::<bool>()), 1..12),
        ) {
            let mut history: Vec<Edition> = Vec::new();
            let mut agreed: Option<(Version, Facts)> = None;
            for (facts, agrees) in steps {
                let before = history.last().cloned();
                let edition = Edition::following(&history, facts.clone(), Millis(0));
                history.push(edition.clone());
                let consent = RequiredConsent::to(&facts, &history);
                prop_assert_eq!(&consent.offered, &edition.consent, "publishing offers what was announced");
                prop_assert!(consent.enough.contains(&consent.offered));
                let offered = Name::Version(consent.offered.clone()).find(&history).expect("it can be read");
                prop_assert!(!facts.are_worse_than(&offered.facts), "what is offered is kept");
                if let Some(before) = before {
                    let promised = Name::Version(before.consent.clone()).find(&history).expect("kept").clone();
                    prop_assert_eq!(
                        before.consent == edition.consent,
                        !facts.are_worse_than(&promised.facts),
                        "the URL changes only for the worse"
                    );
                }
                if let Some((version, promise)) = &agreed {
                    prop_assert_eq!(consent.enough.contains(version), !facts.are_worse_than(promise));
                }
                if agrees {
                    agreed = Some((consent.offered.clone(), offered.facts.clone()));
                }
            }
        }
    }

    /// The facts as versions of Bindery before the keys of `LATER_KEYS` stored them.
    const STORED_BEFORE: &str = r#"{"controller":{"name":"n","postal_address":"p","contact":"c"},"peers":[],"lookup_log":"full","periods":{},"processors":[{"name":"h","purpose":"p","url":"u"}]}"#;

    #[test]
    fn an_update_that_brings_new_keys_asks_nobody_and_keeps_the_version() {
        let before: Facts = serde_json::from_str(STORED_BEFORE).expect("it is still read");
        let version = hex(&Sha256::digest(STORED_BEFORE)[..6]);
        assert_eq!(before.version().as_str(), version, "as it was computed then");
        let history = [Edition::following(&[], before.clone(), Millis(0))];
        let after = Facts {
            controller: Controller {
                name: "n".to_owned(),
                postal_address: "p".to_owned(),
                contact: "c".to_owned(),
                ..Controller::default()
            },
            peers: [].into(),
            lookup_log: LookupLog::Full,
            periods: [].into(),
            processors: [Processor {
                name: "h".to_owned(),
                purpose: "p".to_owned(),
                url: "u".to_owned(),
                country: String::new(),
            }]
            .into(),
        };
        assert!(after.changes_since(&before).is_empty());
        assert_eq!(RequiredConsent::to(&after, &history).offered.as_str(), version);
    }

    #[test]
    fn editions_have_two_names() {
        for (text, expected) in [
            ("1", Some(Name::Number(1))),
            ("123456789", Some(Name::Number(123_456_789))),
            ("0", None),
            ("01", None),
            ("1234567890", None),
            ("", None),
            ("..", None),
            ("0123456789AB", None),
            ("0123456789abc", None),
        ] {
            assert_eq!(Name::parse(text), expected, "{text}");
        }
        assert!(matches!(Name::parse("012345678901"), Some(Name::Version(_))));
    }
}
