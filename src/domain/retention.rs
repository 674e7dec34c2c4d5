//! Every retention period, in one table (design, P4, P9, P14, P15 and P18). The tasks delete.
//!
//! The configuration holds the periods that the operator may shorten, and [`Period::limit`] their limits.
//! Lifetimes of caches that hold no personal data are next to each cache.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::{DAY, HOUR};

/// A retention period that the operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// The lookup log.
    LookupLog,
    /// The IP addresses and user agents of callers.
    AccessLog,
    /// The IP addresses of connections.
    ConnectionLog,
    /// The last traces of withdrawn bindings and other deleted data.
    DeletedBinding,
    /// Pending invitations.
    Invitation,
    /// Unused access tokens.
    IdleAccount,
    /// The pepper of lookup hashes.
    Pepper,
}

/// The limits of a [`Period`].
pub struct Limit {
    /// The key in the configuration.
    pub key: &'static str,
    /// The shortest period that Bindery can keep, in days.
    pub least_days: u32,
    /// The longest period that is allowed, in days (design, P18: limits are hard).
    pub most_days: u32,
    /// The default, in days.
    pub default_days: u32,
    /// The promise of the policy, if it limits the period.
    pub sentence: Option<&'static str>,
}

impl Period {
    /// Every period.
    pub const ALL: [Self; 7] = [
        Self::LookupLog,
        Self::AccessLog,
        Self::ConnectionLog,
        Self::DeletedBinding,
        Self::Invitation,
        Self::IdleAccount,
        Self::Pepper,
    ];

    /// The limits and the default of the period.
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
                // The notice to the owner may be queued for a day, and the rewrite may come a day after that.
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

/// How long a validation session is valid after its last change (specification). Then Bindery deletes it with
/// its address (P4).
pub const SESSION: Duration = DAY;

/// How long the link to a person's own page works (P11).
pub const VISIT_LINK: Duration = HOUR;

/// How long a person's own page stays open (P11).
pub const VISIT_PAGE: Duration = Duration::from_secs(30 * 60);

/// How long the outbox retries a row before Bindery deletes it (P18).
pub const GIVE_UP: Duration = Duration::from_secs(7 * DAY.as_secs());

/// Like [`GIVE_UP`], for notices to the owner of an address: a notice may be the last data about the person
/// (P8).
pub const GIVE_UP_OWNER_MAIL: Duration = DAY;

/// How long lookups may use the previous pepper, so that a client that fetched it just before the rotation need
/// not fetch again. Then Bindery deletes it with its index (P3).
pub const PEPPER_GRACE: Duration = Duration::from_secs(10 * 60);

/// How long Bindery keeps audit entries (P19).
pub const AUDIT: Duration = Duration::from_secs(365 * DAY.as_secs());

/// The time between two retention rounds: Bindery may delete a row this much later than its period ends.
/// Consents may wait for the first round of the next day.
pub const ROUND: Duration = Duration::from_secs(10 * 60);

/// Log files are deleted this long before their period ends. The policy's longest periods leave no room for
/// waiting until the next [`ROUND`] (P14, P15).
pub const LOG_MARGIN: Duration = Duration::from_secs(ROUND.as_secs() * 3 / 2);

/// How long Bindery keeps mails and messages that it writes into files instead of sending them. That is long
/// enough for a developer to read them.
pub const SPOOL: Duration = Duration::from_secs(7 * DAY.as_secs());

/// The shortest time between two rewrites of the database file. A rewrite removes the bytes of deleted rows
/// (P9).
pub const REWRITE: Duration = DAY;

/// The longest time that Bindery keeps the copy of the database from before a migration or restore, see [`old_copies`].
const OLD_COPIES: Duration = Duration::from_secs(7 * DAY.as_secs());

/// How long Bindery keeps the copy of the database from before a migration or restore, if removed data must be gone within
/// `deleted_binding` (P9).
///
/// When the file was copied, removed rows in it may have been waiting for the rewrite, and a notice for its
/// delivery. So the copy must be deleted that much earlier.
pub fn old_copies(deleted_binding: Duration) -> Duration {
    OLD_COPIES.min(deleted_binding.saturating_sub(GIVE_UP_OWNER_MAIL + REWRITE + 2 * ROUND))
}

/// The longest that the operator may keep a backup, in days, if removed data must be gone within
/// `deleted_binding_days` (P9).
///
/// A backup has the address of a row that was removed just after it was made. The notice to its owner may keep the
/// address in the database for a day ([`GIVE_UP_OWNER_MAIL`]), and the round that deletes the backup comes later
/// than its time.
pub const fn most_backup_days(deleted_binding_days: u32) -> u32 {
    deleted_binding_days.saturating_sub(1)
}

/// Bindery warns if the last backup is older than this and `backup.directory` is set.
pub const BACKUP_OVERDUE: Duration = Duration::from_secs(2 * DAY.as_secs());

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
            assert!(!kept.is_zero() && GIVE_UP_OWNER_MAIL + REWRITE + ROUND + kept + ROUND <= deleted);
        }
        assert_eq!(old_copies(30 * DAY), 7 * DAY);
    }

    #[test]
    fn a_backup_goes_before_what_is_in_it_is_too_old() {
        for days in Period::DeletedBinding.limit().least_days..=30 {
            assert!(DAY * most_backup_days(days) + ROUND < DAY * days && most_backup_days(days) > 0);
            assert!(DAY * most_backup_days(days) + GIVE_UP_OWNER_MAIL <= DAY * days);
        }
        assert_eq!(most_backup_days(30), 29);
    }
}
