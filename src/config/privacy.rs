//! `[privacy]` and `[operator]`: retention periods, the lookup log, and who is responsible.
//!
//! The policy sets the longest periods (`domain::retention`); Bindery refuses a longer one.

use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, default_days};
pub use crate::domain::notice::{LookupLog, Processor};
use crate::domain::{
    notice::{Controller, Facts, Notice},
    retention::{Limit, Period},
    server_name::ServerName,
    threepid::Address,
    time::DAY,
};

/// How long this server keeps data, and what it logs about lookups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Privacy {
    /// What the lookup log holds: "full" (with the hashes of the addresses), "summary" (only their number), or "off".
    pub lookup_log: LookupLog,
    /// How many days the lookup log is kept, 1 to 7.
    pub lookup_log_days: NonZeroU32,
    /// How many days the IP addresses and user agents of callers are kept, 1 to 60.
    pub access_log_days: NonZeroU32,
    /// How many days the IP addresses of connections are kept, 1 to 180.
    pub connection_log_days: NonZeroU32,
    /// Within how many days the last trace of a withdrawn binding is erased from the disk, 3 to 30.
    pub deleted_binding_days: NonZeroU32,
    /// After how many days without use an access token is deleted, 1 to 365.
    pub idle_account_days: NonZeroU32,
    /// Whether this server mails the owner of an email address when it is published or withdrawn.
    pub notify_owners: bool,
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            lookup_log: LookupLog::Full,
            lookup_log_days: default_days(Period::LookupLog),
            access_log_days: default_days(Period::AccessLog),
            connection_log_days: default_days(Period::ConnectionLog),
            deleted_binding_days: default_days(Period::DeletedBinding),
            idle_account_days: default_days(Period::IdleAccount),
            notify_owners: true,
        }
    }
}

impl Privacy {
    /// How long an unused access token is kept.
    pub fn idle_account(&self) -> Duration {
        DAY.saturating_mul(self.idle_account_days.get())
    }

    /// Within how long the last trace of deleted data must be erased.
    pub fn deleted_binding(&self) -> Duration {
        DAY.saturating_mul(self.deleted_binding_days.get())
    }
}

/// Who is responsible for this server; the privacy notice names them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Operator {
    /// The name of the person or organisation that runs this server.
    pub name: String,
    /// Their postal address, in one line.
    pub postal_address: String,
    /// The email address for questions of people about their data.
    pub contact: String,
    /// Your data protection officer and how to reach them, in one line; empty if you have none.
    pub data_protection_officer: String,
    /// Your representative in the European Union and how to reach them, in one line; empty if you need none.
    pub eu_representative: String,
    /// The web page with your imprint; empty if you have none.
    pub imprint_url: String,
    /// Where to report security problems, as a mailto: or https: URL; empty means the contact.
    pub security_contact: String,
    /// The name of the data protection authority that people may complain to.
    pub authority: String,
    /// The web page of that authority.
    pub authority_url: String,
    /// Companies and people who process data for you, such as the hoster or the mail relay: for each a name, a purpose, the url of their policy and, if you like, the country, like { name = "Example Hosting", purpose = "hosts this server", url = "https://hosting.example/privacy", country = "Sweden" }.
    pub processors: Vec<Processor>,
}

impl Operator {
    /// Where to report security problems, as a URL; `None` if the operator names no contact.
    pub fn security_contact(&self) -> Option<String> {
        let contact = || (!self.contact.is_empty()).then(|| format!("mailto:{}", self.contact));
        Some(self.security_contact.clone()).filter(|url| !url.is_empty()).or_else(contact)
    }

    /// The empty keys that the privacy notice needs.
    pub fn unsaid(&self) -> Vec<&'static str> {
        let keys = [
            ("operator.name", &self.name),
            ("operator.postal_address", &self.postal_address),
            ("operator.contact", &self.contact),
        ];
        keys.into_iter().filter(|(_, value)| value.is_empty()).map(|(key, _)| key).collect()
    }

    /// The problems of these values, for [`Config::check`].
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| problems.extend((!holds).then_some(problem));
        let contact = &self.contact;
        require(
            contact.is_empty() || Address::email(contact).is_some(),
            format!("operator.contact: '{contact}' is not an email address, like 'privacy@example.org'"),
        );
        let url = &self.security_contact;
        require(
            url.is_empty() || is_plain(url) && (url.starts_with("https://") || url.starts_with("mailto:")),
            format!("operator.security_contact: '{url}' must begin with mailto: or https://"),
        );
        for (key, url) in [("authority_url", &self.authority_url), ("imprint_url", &self.imprint_url)] {
            require(
                url.is_empty() || is_web_page(url),
                format!("operator.{key}: '{url}' must begin with https:// or http://, then a host"),
            );
        }
        let lines = [
            // The name is in the header of every mail.
            ("name", &self.name),
            ("data_protection_officer", &self.data_protection_officer),
            ("eu_representative", &self.eu_representative),
        ];
        for (key, text) in lines {
            require(is_line(text), format!("operator.{key}: {text:?} must be one line of text, or empty"));
        }
        for Processor { name, purpose, url, country } in &self.processors {
            require(
                ![name, purpose].iter().any(|text| text.trim().is_empty()),
                "operator.processors: each needs a name and a purpose".to_owned(),
            );
            require(
                is_web_page(url),
                format!(
                    "operator.processors: the url '{url}' of '{name}' must begin with https:// or http://, then a host"
                ),
            );
            require(
                is_line(country),
                format!(
                    "operator.processors: the country {country:?} of '{name}' must be one line of text, or empty"
                ),
            );
        }
        problems
    }
}

fn is_plain(url: &str) -> bool {
    url.bytes().all(|b| b.is_ascii_graphic())
}

fn is_web_page(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    is_plain(url) && host.is_some_and(|host| ServerName::parse(host).is_some())
}

fn is_line(text: &str) -> bool {
    let is_blank = !text.is_empty() && text.trim().is_empty();
    !is_blank && !text.contains(|c: char| c.is_control() || ['\u{2028}', '\u{2029}'].contains(&c))
}

impl Config {
    /// The configured length of a period, in days.
    fn days(&self, period: Period) -> u32 {
        let days = match period {
            Period::LookupLog => self.privacy.lookup_log_days,
            Period::AccessLog => self.privacy.access_log_days,
            Period::ConnectionLog => self.privacy.connection_log_days,
            Period::DeletedBinding => self.privacy.deleted_binding_days,
            Period::Invitation => self.invites.expire_days,
            Period::IdleAccount => self.privacy.idle_account_days,
            Period::Pepper => self.lookup.pepper_rotation_days,
        };
        days.get()
    }

    /// A problem for each period that is too short or too long, with the promise of the policy that it breaks.
    pub(super) fn wrong_periods(&self) -> impl Iterator<Item = String> {
        Period::ALL.into_iter().filter_map(|period| {
            let (days, Limit { key, least_days, most_days, sentence, .. }) =
                (self.days(period), period.limit());
            let promise = sentence.map(|sentence| format!("; the policy says: {sentence}"));
            (!(least_days..=most_days).contains(&days)).then(|| {
                let promise = promise.unwrap_or_default();
                format!("{key}: {days} is not between {least_days} and {most_days}{promise}")
            })
        })
    }

    /// The facts and values of the privacy notice.
    pub fn notice(&self) -> Notice {
        let Self { privacy, operator, .. } = self;
        let logs_lookups = privacy.lookup_log != LookupLog::Off;
        let is_said = |period: &Period| match period {
            // Without a lookup log there is no period for it.
            Period::LookupLog => logs_lookups,
            Period::AccessLog
            | Period::ConnectionLog
            | Period::DeletedBinding
            | Period::Invitation
            | Period::IdleAccount => true,
            // A pepper is not personal data.
            Period::Pepper => false,
        };
        let periods = Period::ALL.into_iter().filter(is_said);
        let facts = Facts {
            controller: Controller {
                name: operator.name.clone(),
                postal_address: operator.postal_address.clone(),
                contact: operator.contact.clone(),
                data_protection_officer: operator.data_protection_officer.clone(),
                eu_representative: operator.eu_representative.clone(),
                imprint_url: operator.imprint_url.clone(),
            },
            peers: BTreeSet::new(),
            lookup_log: privacy.lookup_log,
            periods: periods.map(|period| (period, self.days(period))).collect(),
            processors: operator.processors.iter().cloned().collect(),
        };
        Notice {
            facts,
            server_name: self.server_name.clone(),
            base_url: self.public_base_url.clone(),
            authority: operator.authority.clone(),
            authority_url: operator.authority_url.clone(),
            security_contact: operator.security_contact().unwrap_or_default(),
            lookups_at_once: self.lookup.max_addresses,
            lookups_a_day: self.lookup.daily_budget.get(),
            notify_owners: privacy.notify_owners,
            backup_days: self.backup.keep_days.get(),
        }
    }
}
