//! Every period after which something is deleted, in one table (design, P4, P9, P14, P15 and P18).
//!
//! It says how long; deleting is done by the tasks. Periods that the operator may shorten are in
//! the configuration, and [`LIMITS`] says how long they may be.

use std::time::Duration;

use super::time::DAY;

/// A period that the operator chooses, and what the policy allows.
pub struct Limit {
    /// The key in the section `privacy` of the configuration.
    pub key: &'static str,
    /// The shortest period that can be kept, in days.
    pub least_days: u32,
    /// The longest period that the policy allows, in days.
    pub most_days: u32,
    /// What the policy promises.
    pub sentence: &'static str,
}

/// The greatest periods (design, P18: limits are hard).
pub const LIMITS: &[Limit] = &[
    Limit {
        key: "lookup_log_days",
        least_days: 1,
        most_days: 7,
        sentence: "which addresses were looked up is kept for seven days at most",
    },
    Limit {
        key: "access_log_days",
        least_days: 1,
        most_days: 60,
        sentence: "the IP address and user agent of a caller are kept for sixty days at most",
    },
    Limit {
        key: "connection_log_days",
        least_days: 1,
        most_days: 180,
        sentence: "the IP addresses of connections are kept for 180 days at most",
    },
    Limit {
        key: "deleted_binding_days",
        // The file is rewritten once a day at most.
        least_days: 2,
        most_days: 30,
        sentence: "what was removed is gone from every database within thirty days",
    },
    Limit {
        key: "idle_account_days",
        least_days: 1,
        most_days: 365,
        sentence: "an account that nobody uses is forgotten after a year",
    },
];

/// How long it is remembered that data of somebody was handed out or erased.
pub const AUDIT: Duration = Duration::from_secs(365 * DAY.as_secs());

/// At most so often is the file rewritten in which deleted rows have left their bytes.
pub const REWRITE: Duration = DAY;
