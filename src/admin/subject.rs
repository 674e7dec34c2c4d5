//! The person that `export`, `erase` and `audit` are about.

use serde::{Deserialize, Serialize};

use super::input;
use crate::{
    domain::{audit, ids::UserId, threepid::Address},
    ops::{Core, person::audit::subjects_of},
};

/// A person, named by one of the two things that Bindery knows of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Subject {
    /// The owner of this address.
    #[serde(with = "input")]
    Address(Address),
    /// The owner of this account.
    #[serde(with = "input")]
    Mxid(UserId),
}

impl Subject {
    /// The keyed hashes under which the audit has them.
    pub(super) fn audit_hashes(&self, core: &Core) -> Vec<[u8; 32]> {
        match self {
            Self::Address(address) => subjects_of(core, address),
            Self::Mxid(user) => vec![audit::subject(core.session_key(), user.as_str())],
        }
    }
}
