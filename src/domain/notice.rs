//! The facts that the privacy notice states, and which changes of them are for the worse (design, P17).
//!
//! Facts are ordered. One set is no worse than another if the controller is the same, no period is longer, the
//! lookup log holds no more, no new peer or processor gets the data, and no processor handles it in another
//! country. A person who agreed to some facts has agreed to all facts that are no worse. Some facts are listed when
//! they change and never make a set worse: the data protection officer, the EU representative and the imprint. The
//! authority, the contact for security reports and the wording are not facts in this sense.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{retention::Period, secret::hex};

/// How much the lookup log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LookupLog {
    /// Nothing.
    Off,
    /// Who looked up how many addresses, and how many were found.
    Summary,
    /// The hashes of the addresses as well.
    Full,
}

/// A person or company that processes data for the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Their name.
    pub name: String,
    /// What they do, in a few words.
    pub purpose: String,
    /// The URL of their own privacy policy.
    pub url: String,
    /// The country in which they process the data; may be left out.
    #[serde(default)]
    pub country: String,
}

impl Processor {
    /// Whether another entry says the same about them, except for the country.
    fn has_same_task(&self, other: &Self) -> bool {
        (&self.name, &self.purpose, &self.url) == (&other.name, &other.purpose, &other.url)
    }
}

/// Who is responsible for the data (GDPR article 4 (7)), from the configuration. A key that the operator did not
/// set is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// The name of the person or organisation.
    pub name: String,
    /// Their postal address.
    pub postal_address: String,
    /// The email address to write to.
    pub contact: String,
    /// The data protection officer, and how to reach them.
    #[serde(default)]
    pub data_protection_officer: String,
    /// The representative in the EU of a controller outside it (GDPR article 27).
    #[serde(default)]
    pub eu_representative: String,
    /// The URL of the imprint.
    #[serde(default)]
    pub imprint_url: String,
}

/// Keys of facts that earlier versions of Bindery did not have. An empty one is not part of the version of the facts,
/// so that an update of Bindery alone changes no version.
const LATER_KEYS: [&str; 4] = ["country", "data_protection_officer", "eu_representative", "imprint_url"];

/// The facts that decide whether Bindery asks people for consent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who is responsible.
    pub controller: Controller,
    /// Other identity servers that hold the associations that are published here.
    pub peers: BTreeSet<String>,
    /// How much the lookup log holds.
    pub lookup_log: LookupLog,
    /// The retention periods in days. Bindery does not store the data of a period that is missing.
    pub periods: BTreeMap<Period, u32>,
    /// Who processes data for the controller.
    pub processors: BTreeSet<Processor>,
}

/// A difference between two sets of facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FactChange {
    /// Another controller is responsible, or their contact has changed.
    Controller,
    /// The data protection officer has changed.
    DataProtectionOfficer,
    /// The representative in the EU has changed.
    EuRepresentative,
    /// The URL of the imprint has changed.
    Imprint,
    /// Another identity server now holds the associations that are published here.
    NewPeer {
        /// Its name.
        name: String,
    },
    /// A peer no longer holds them.
    FormerPeer {
        /// Its name.
        name: String,
    },
    /// The lookup log holds more or less.
    LookupLog {
        /// What it held.
        from: LookupLog,
        /// What it holds.
        to: LookupLog,
    },
    /// A retention period has changed, in days.
    Period {
        /// Which period.
        period: Period,
        /// The period before; 0 if the data was not stored.
        from: u32,
        /// The period now; 0 if the data is not stored.
        to: u32,
    },
    /// A processor is new, or has another purpose or policy URL.
    NewProcessor {
        /// Their name.
        name: String,
    },
    /// A processor handles data in another country, or the operator no longer says in which.
    MovedProcessor {
        /// Their name.
        name: String,
    },
    /// The operator now says in which country a processor handles data.
    LocatedProcessor {
        /// Their name.
        name: String,
    },
    /// A processor handles data for fewer purposes or in fewer countries.
    ReducedProcessor {
        /// Their name.
        name: String,
    },
    /// A processor no longer processes data.
    FormerProcessor {
        /// Their name.
        name: String,
    },
}

impl FactChange {
    /// Whether people must give consent again before this change holds for them.
    pub fn is_for_the_worse(&self) -> bool {
        match self {
            // A first controller counts too: consent is given to a named controller.
            Self::Controller
            | Self::NewPeer { .. }
            | Self::NewProcessor { .. }
            | Self::MovedProcessor { .. } => true,
            // A notice without a country leaves the country open, so a first one only says more.
            Self::LocatedProcessor { .. } => false,
            Self::FormerPeer { .. } | Self::ReducedProcessor { .. } | Self::FormerProcessor { .. } => false,
            Self::DataProtectionOfficer | Self::EuRepresentative | Self::Imprint => false,
            Self::LookupLog { from, to } => to > from,
            Self::Period { from, to, .. } => to > from,
        }
    }
}

impl Controller {
    fn changes_since(&self, before: &Self) -> Vec<FactChange> {
        let identity = |of: &Self| (of.name.clone(), of.postal_address.clone(), of.contact.clone());
        [
            (identity(self) != identity(before), FactChange::Controller),
            (
                self.data_protection_officer != before.data_protection_officer,
                FactChange::DataProtectionOfficer,
            ),
            (self.eu_representative != before.eu_representative, FactChange::EuRepresentative),
            (self.imprint_url != before.imprint_url, FactChange::Imprint),
        ]
        .into_iter()
        .filter_map(|(has_changed, change)| has_changed.then_some(change))
        .collect()
    }
}

impl Facts {
    /// The changes since `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<FactChange> {
        let mut changes = self.controller.changes_since(&before.controller);
        let (new, former) = (self.peers.difference(&before.peers), before.peers.difference(&self.peers));
        changes.extend(new.map(|name| FactChange::NewPeer { name: name.clone() }));
        changes.extend(former.map(|name| FactChange::FormerPeer { name: name.clone() }));
        if self.lookup_log != before.lookup_log {
            changes.push(FactChange::LookupLog { from: before.lookup_log, to: self.lookup_log });
        }
        let every: BTreeSet<Period> = self.periods.keys().chain(before.periods.keys()).copied().collect();
        for period in every {
            let (from, to) = (before.days(period), self.days(period));
            changes.extend((from != to).then_some(FactChange::Period { period, from, to }));
        }
        changes.extend(self.processor_changes_since(before));
        changes
    }

    fn processor_changes_since(&self, before: &Self) -> Vec<FactChange> {
        let mut changes = Vec::new();
        let new: Vec<_> = self.processors.difference(&before.processors).collect();
        for processor in &new {
            let name = processor.name.clone();
            let earlier: Vec<_> =
                before.processors.iter().filter(|other| other.has_same_task(processor)).collect();
            changes.push(match earlier.as_slice() {
                [] => FactChange::NewProcessor { name },
                earlier if earlier.iter().any(|other| other.country.is_empty()) => {
                    FactChange::LocatedProcessor { name }
                }
                _ => FactChange::MovedProcessor { name },
            });
        }
        // An entry that changed keeps its name: report what is new about it, not that the earlier one is gone.
        let is_named =
            |processors: &[&Processor], name: &str| processors.iter().any(|other| other.name == name);
        let all: Vec<_> = self.processors.iter().collect();
        for Processor { name, .. } in before.processors.difference(&self.processors) {
            let name = name.clone();
            match (is_named(&new, &name), is_named(&all, &name)) {
                (true, _) => {}
                (false, true) => changes.push(FactChange::ReducedProcessor { name }),
                (false, false) => changes.push(FactChange::FormerProcessor { name }),
            }
        }
        changes.dedup();
        changes
    }

    /// Whether a person who agreed to `agreed` must give consent again.
    pub fn are_worse_than(&self, agreed: &Self) -> bool {
        self.changes_since(agreed).iter().any(FactChange::is_for_the_worse)
    }

    /// The version of these facts: 12 hexadecimal characters, the same for the same facts.
    pub fn version(&self) -> Version {
        let mut text = serde_json::to_string(self).expect("facts are texts and numbers");
        for key in LATER_KEYS {
            // No text contains this: JSON escapes quotes.
            text = text.replace(&format!(",\"{key}\":\"\""), "");
        }
        let hash = Sha256::digest(text);
        Version(hex(&hash[..6]))
    }

    fn days(&self, period: Period) -> u32 {
        self.periods.get(&period).copied().unwrap_or_default()
    }
}

/// The version of a set of facts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(String);

impl Version {
    /// Reads 12 lower-case hexadecimal characters; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 12 && text.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// The 12 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The values that the templates of the privacy notice use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The facts; a change for the worse requires new consent.
    pub facts: Facts,
    /// The name of this server.
    pub server_name: String,
    /// The URL of this server.
    pub base_url: String,
    /// The authority that people may complain to; empty if the operator names none.
    pub authority: String,
    /// Its web page; empty if the operator names none.
    pub authority_url: String,
    /// Where to report a security problem, as a URL; empty if the operator names no contact.
    pub security_contact: String,
    /// How many addresses a new account can look up at once.
    pub lookups_at_once: usize,
    /// How many more an account can look up a day.
    pub lookups_a_day: u64,
    /// Whether Bindery mails the owner of an address when it is published or withdrawn.
    pub notify_owners: bool,
    /// How many days a backup is kept. No fact: a backup is always gone before the period for removed data is over.
    pub backup_days: u32,
}
