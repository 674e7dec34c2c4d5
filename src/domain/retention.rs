//! Every period after which something is deleted, in one table (design, P4, P9, P14, P15 and P18).
//!
//! It says how long; deleting is done by the tasks. Periods that the operator may shorten are in
//! the configuration, and [`Period::limit`] says how long they may be. How long something is merely
//! remembered that is nobody's (caches) is said where it is remembered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::{DAY, HOUR};

/// Something that is kept for a time that the operator chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// The log of lookups.
    LookupLog,
    /// IP addresses and user agents.
    AccessLog,
    /// IP addresses of connections.
    ConnectionLog,
    /// The last traces of what was removed.
    DeletedBinding,
    /// Invitations that nobody took up.
    Invitation,
    /// Access tokens that nobody uses.
    IdleAccount,
    /// The pepper that addresses are hashed with.
    Pepper,
}

/// How long a period may be that the operator chooses.
pub struct Limit {
    /// The key in the configuration.
    pub key: &'static str,
    /// The shortest period that can be kept, in days.
    pub least_days: u32,
    /// The longest period that is allowed, in days (design, P18: limits are hard).
    pub most_days: u32,
    /// The period unless the operator chooses another one, in days.
    pub default_days: u32,
    /// What the policy promises, where the longest period is the policy's.
    pub sentence: Option<&'static str>,
}

impl Period {
    /// Every one of them.
    pub const ALL: [Self; 7] = [
        Self::LookupLog,
        Self::AccessLog,
        Self::ConnectionLog,
        Self::DeletedBinding,
        Self::Invitation,
        Self::IdleAccount,
        Self::Pepper,
    ];

    /// How long it may be.
    pub const fn limit(self) -> Limit {
        match self {
            Self::LookupLog => Limit {
                key: "privacy.lookup_log_days",
                least_days: 1,
                most_days: 7,
                default_days: 7,
                sentence: Some("which addresses were looked up is kept for seven days at most"),
            },
            Self::AccessLog => Limit {
                key: "privacy.access_log_days",
                least_days: 1,
                most_days: 60,
                default_days: 60,
                sentence: Some("the IP address and user agent of a caller are kept for sixty days at most"),
            },
            Self::ConnectionLog => Limit {
                key: "privacy.connection_log_days",
                least_days: 1,
                most_days: 180,
                default_days: 180,
                sentence: Some("the IP addresses of connections are kept for 180 days at most"),
            },
            Self::DeletedBinding => Limit {
                key: "privacy.deleted_binding_days",
                // A mail that says goodbye waits for a day, and then the rewrite for another one.
                least_days: 3,
                most_days: 30,
                default_days: 30,
                sentence: Some("what was removed is gone from every database within thirty days"),
            },
            Self::Invitation => Limit {
                key: "invites.expire_days",
                least_days: 1,
                most_days: 365,
                default_days: 30,
                sentence: None,
            },
            Self::IdleAccount => Limit {
                key: "privacy.idle_account_days",
                least_days: 1,
                most_days: 365,
                default_days: 365,
                sentence: Some("an account that nobody uses is forgotten after a year"),
            },
            Self::Pepper => Limit {
                key: "lookup.pepper_rotation_days",
                least_days: 1,
                most_days: 365,
                default_days: 7,
                sentence: None,
            },
        }
    }
}

/// How long a validation session is good after its last change, as the specification demands; it is
/// deleted then, with the address in it (P4).
pub const SESSION: Duration = DAY;

/// How long the link to a person's own page works (P11).
pub const VISIT_LINK: Duration = HOUR;

/// How long a person's own page is open (P11).
pub const VISIT_PAGE: Duration = Duration::from_secs(30 * 60);

/// For how long it is tried to send what has to leave this machine, before it is deleted (P18).
pub const GIVE_UP: Duration = Duration::from_secs(7 * DAY.as_secs());

/// As [`GIVE_UP`], of mails to the owner of an address, when nothing else may be kept of the person
/// (P8).
pub const GIVE_UP_NOTICE: Duration = DAY;

/// How long the pepper before may still be used, so that a client that has just asked for it need not
/// ask again. Then it is deleted with its index (P3).
pub const PEPPER_GRACE: Duration = Duration::from_secs(10 * 60);

/// How long it is remembered that data of somebody was handed out or erased (P19).
pub const AUDIT: Duration = Duration::from_secs(365 * DAY.as_secs());

/// How long it is from one round of deleting to the next: so much later than its period is over may
/// something go. Consents may wait for the first round of the next day.
pub const ROUND: Duration = Duration::from_secs(10 * 60);

/// So much earlier than its period is over the file of a log goes, for the policy's longest periods
/// leave no room for the time until the next [`ROUND`] (P14, P15).
pub const LOG_MARGIN: Duration = Duration::from_secs(ROUND.as_secs() * 3 / 2);

/// For how long a mail or a message lies there that was written into a file instead of being sent: what
/// a developer has not looked at by then, nobody will.
pub const SPOOL: Duration = Duration::from_secs(7 * DAY.as_secs());

/// At most so often is the file rewritten in which deleted rows have left their bytes (P9).
pub const REWRITE: Duration = DAY;

/// How long the copy lies around that was made before a migration, unless [`old_copies`] says less.
const OLD_COPIES: Duration = Duration::from_secs(7 * DAY.as_secs());

/// How long the copy lies around that was made before a migration, if what was removed has to be gone
/// after `deleted_binding` (P9).
///
/// In the file that was copied, something may have waited for its rewrite, and its owner for the mail
/// that says so.
pub fn old_copies(deleted_binding: Duration) -> Duration {
    OLD_COPIES.min(deleted_binding.saturating_sub(GIVE_UP_NOTICE + REWRITE + 2 * ROUND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_each_has_a_key_of_its_own() {
        let mut keys: Vec<_> = Period::ALL.map(|period| period.limit().key).into();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), Period::ALL.len());
        for Limit { key, least_days, most_days, default_days, .. } in Period::ALL.map(Period::limit) {
            assert!((least_days..=most_days).contains(&default_days), "{key}");
        }
    }

    #[test]
    fn a_copy_goes_before_what_is_in_it_is_too_old() {
        let least = DAY * Period::DeletedBinding.limit().least_days;
        for days in least.as_secs() / DAY.as_secs()..=30 {
            let deleted = Duration::from_secs(days * DAY.as_secs());
            let kept = old_copies(deleted);
            assert!(!kept.is_zero() && GIVE_UP_NOTICE + REWRITE + ROUND + kept + ROUND <= deleted);
        }
        assert_eq!(old_copies(30 * DAY), 7 * DAY);
    }
}
