//! An association: the published fact that an address belongs to a Matrix ID.
//!
//! It says what an association looks like to the world, signed; it does not decide who may make
//! one.

use serde_json::{Value, json};

use super::{ids::UserId, threepid::Address, time::Millis};

/// How long an association claims to hold, in milliseconds: a hundred years, as the field does.
const VALIDITY: u64 = 100 * 365 * 24 * 3_600_000;

/// An address, the Matrix ID it leads to, and when that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// The address that is found.
    pub address: Address,
    /// The account it leads to.
    pub user_id: UserId,
    /// When it was made.
    pub ts: Millis,
}

impl Association {
    /// The time a local change gets: later than the row it replaces, also when the clock went
    /// backwards.
    pub fn next_ts(now: Millis, replaced: Option<Millis>) -> Millis {
        replaced.map_or(now, |old| now.max(Millis(old.0.saturating_add(1))))
    }

    /// The association as the specification writes it, to be signed.
    pub fn to_json(&self) -> Value {
        json!({
            "address": self.address.as_str(),
            "medium": self.address.medium().as_str(),
            "mxid": self.user_id.as_str(),
            "not_before": self.ts.0,
            "not_after": self.ts.0 + VALIDITY,
            "ts": self.ts.0,
        })
    }
}
