//! `[privacy]` and `[operator]`: how long things are kept, what is logged, and who answers for it.
//!
//! The greatest periods are the policy's (`domain::retention`); a longer one is refused.

use std::{num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::at_least_one;
use crate::domain::{retention::LIMITS, time::DAY};

/// How long things are kept, and what is logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Privacy {
    /// What the log of lookups holds: "full" (with the hashes of the addresses), "summary" (only how many), or "off".
    pub lookup_log: LookupLog,
    /// For how many days the log of lookups is kept, 1 to 7.
    pub lookup_log_days: NonZeroU32,
    /// For how many days the IP addresses and user agents of callers are kept, 1 to 60.
    pub access_log_days: NonZeroU32,
    /// For how many days the IP addresses of connections are kept, 1 to 180.
    pub connection_log_days: NonZeroU32,
    /// Within how many days the last trace of a withdrawn binding is gone from the disk, 2 to 30.
    pub deleted_binding_days: NonZeroU32,
    /// After how many days without use an access token is forgotten, 1 to 365.
    pub idle_account_days: NonZeroU32,
    /// Whether the owner of an e-mail address is told by mail when it is published or withdrawn.
    pub notify_owners: bool,
}

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

impl Default for Privacy {
    fn default() -> Self {
        Self {
            lookup_log: LookupLog::Full,
            lookup_log_days: at_least_one(7),
            access_log_days: at_least_one(60),
            connection_log_days: at_least_one(180),
            deleted_binding_days: at_least_one(30),
            idle_account_days: at_least_one(365),
            notify_owners: true,
        }
    }
}

impl Privacy {
    /// For how long an access token lives that nobody uses.
    pub fn idle_account(&self) -> Duration {
        DAY.saturating_mul(self.idle_account_days.get())
    }

    /// The period in days that a key of [`LIMITS`] names.
    fn days(&self, key: &str) -> u32 {
        let days = match key {
            "lookup_log_days" => self.lookup_log_days,
            "access_log_days" => self.access_log_days,
            "connection_log_days" => self.connection_log_days,
            "deleted_binding_days" => self.deleted_binding_days,
            _ => self.idle_account_days,
        };
        days.get()
    }

    /// What is longer than the policy allows, each with the sentence that it breaks.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        LIMITS.iter().filter_map(|limit| {
            let days = self.days(limit.key);
            let key = limit.key;
            let (least, most) = (limit.least_days, limit.most_days);
            (!(least..=most).contains(&days)).then(|| {
                format!(
                    "privacy.{key}: {days} is not between {least} and {most}; the policy says: {}",
                    limit.sentence
                )
            })
        })
    }
}

/// Who answers for this server; the privacy notice says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Operator {
    /// The name of the person or organisation that runs this server.
    pub name: String,
    /// Their postal address, in one line.
    pub postal_address: String,
    /// The e-mail address that people write to about their data.
    pub contact: String,
    /// Where to report a weakness, as a mailto: or https: URL; the contact if it is empty.
    pub security_contact: String,
    /// The name of the authority that people may complain to.
    pub authority: String,
    /// The web page of that authority.
    pub authority_url: String,
    /// Others who process data for you: for each a name, what they do, and the URL of their policy.
    pub processors: Vec<Processor>,
}

/// Somebody who processes data for the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// Who.
    pub name: String,
    /// What they do, in a few words.
    pub purpose: String,
    /// Their own policy.
    pub url: String,
}
