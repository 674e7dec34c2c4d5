//! An association: the published binding of an address to a Matrix ID, and its JSON before signing.

use serde_json::{Value, json};

use super::{ids::UserId, threepid::Address, time::Millis};

/// How long an association claims to be valid, in milliseconds: a hundred years, as other identity servers do.
const VALIDITY: u64 = 100 * 365 * 24 * 3_600_000;

/// An address, the Matrix ID that it is bound to, and when it was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Association {
    /// The bound address.
    pub address: Address,
    /// The Matrix ID that a lookup finds.
    pub user_id: UserId,
    /// When it was bound.
    pub ts: Millis,
}

impl Association {
    /// The timestamp of a new association: now, but always later than the row that it replaces, even if the
    /// clock was set back.
    pub fn next_ts(now: Millis, replaced: Option<Millis>) -> Millis {
        replaced.map_or(now, |old| now.max(Millis(old.0.saturating_add(1))))
    }

    /// The association as the specification writes it, without signatures.
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
