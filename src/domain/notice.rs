//! What the privacy notice says of a server: the facts that matter to people, and which change of
//! them is for the worse (design, P17).
//!
//! Facts are ordered: one set is no worse than another if it comes from the same controller, keeps
//! nothing for longer, logs no more, and gives the data to nobody else. Whoever agreed to some facts
//! has agreed to all that are no worse. Names of authorities, addresses for reports of weaknesses
//! and the words themselves do not matter in this sense. Knows neither templates nor languages.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{retention::Period, secret::hex};

/// How much the log of lookups holds.
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

/// Somebody who processes data for the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Who.
    pub name: String,
    /// What they do, in a few words.
    pub purpose: String,
    /// Their own policy.
    pub url: String,
}

/// Who is responsible for the data (GDPR article 4 (7)), as the operator says it; empty where nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// The name of the person or organisation.
    pub name: String,
    /// Where they are.
    pub postal_address: String,
    /// The e-mail address to write to.
    pub contact: String,
}

/// What matters about a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who is responsible.
    pub controller: Controller,
    /// Other identity servers that hold what is published here.
    pub peers: BTreeSet<String>,
    /// How much the log of lookups holds.
    pub lookup_log: LookupLog,
    /// For how many days things are kept; what is missing is not kept at all.
    pub periods: BTreeMap<Period, u32>,
    /// Who processes data for the controller.
    pub processors: BTreeSet<Processor>,
}

/// What makes one set of facts different from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Change {
    /// Somebody else is responsible, or is reached in another way.
    Controller,
    /// This server now holds what is published here.
    NewPeer {
        /// Its name.
        name: String,
    },
    /// This server does so no more.
    FormerPeer {
        /// Its name.
        name: String,
    },
    /// The log of lookups holds more or less.
    LookupLog {
        /// What it held.
        from: LookupLog,
        /// What it holds.
        to: LookupLog,
    },
    /// Something is kept for another time, in days.
    Period {
        /// What is kept.
        period: Period,
        /// For how long it was.
        from: u32,
        /// For how long it is.
        to: u32,
    },
    /// Somebody processes data, or does so for another purpose.
    NewProcessor {
        /// Who.
        name: String,
    },
    /// Somebody does so no more.
    FormerProcessor {
        /// Who.
        name: String,
    },
}

impl Change {
    /// Whether people have to be asked before it holds for them.
    pub fn is_for_the_worse(&self) -> bool {
        match self {
            // Also when nobody was named before: people agree to what somebody does, not anybody.
            Self::Controller | Self::NewPeer { .. } | Self::NewProcessor { .. } => true,
            Self::FormerPeer { .. } | Self::FormerProcessor { .. } => false,
            Self::LookupLog { from, to } => to > from,
            Self::Period { from, to, .. } => to > from,
        }
    }
}

impl Facts {
    /// What has changed since `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.controller != before.controller {
            changes.push(Change::Controller);
        }
        let (new, former) = (self.peers.difference(&before.peers), before.peers.difference(&self.peers));
        changes.extend(new.map(|name| Change::NewPeer { name: name.clone() }));
        changes.extend(former.map(|name| Change::FormerPeer { name: name.clone() }));
        if self.lookup_log != before.lookup_log {
            changes.push(Change::LookupLog { from: before.lookup_log, to: self.lookup_log });
        }
        let every: BTreeSet<Period> = self.periods.keys().chain(before.periods.keys()).copied().collect();
        for period in every {
            let (from, to) = (before.days(period), self.days(period));
            changes.extend((from != to).then_some(Change::Period { period, from, to }));
        }
        let new = self.processors.difference(&before.processors);
        changes.extend(new.map(|processor| Change::NewProcessor { name: processor.name.clone() }));
        // One that only changed is in both differences, and is new in what it does.
        let still = |name: &str| self.processors.iter().any(|processor| processor.name == name);
        let former = before.processors.iter().filter(|processor| !still(&processor.name));
        changes.extend(former.map(|processor| Change::FormerProcessor { name: processor.name.clone() }));
        changes
    }

    /// Whether somebody who agreed to `agreed` has to be asked about this.
    pub fn are_worse_than(&self, agreed: &Self) -> bool {
        self.changes_since(agreed).iter().any(Change::is_for_the_worse)
    }

    /// The version of these facts: 12 hexadecimal characters, the same for the same facts.
    pub fn version(&self) -> Version {
        let text = serde_json::to_vec(self).expect("facts are texts and numbers");
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

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Everything that the texts of a notice are made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What matters.
    pub facts: Facts,
    /// The name of this server.
    pub server_name: String,
    /// The URL of this server.
    pub base_url: String,
    /// The authority that people may complain to; empty if the operator names none.
    pub authority: String,
    /// Its web page; empty if the operator names none.
    pub authority_url: String,
    /// Where to report a weakness, as a URL; empty if there is no such place.
    pub security_contact: String,
    /// Whether owners of addresses hear by mail that theirs was published or withdrawn.
    pub notify_owners: bool,
}
