//! The person that `export`, `erase` and `audit` are about.

use serde::{Deserialize, Serialize};

use super::input;
use crate::{
    domain::{audit, ids::UserId, threepid::Address},
    ops::{Core, person::audit::subject_of},
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
    /// The keyed hash under which the audit has them.
    pub(super) fn audit_hash(&self, core: &Core) -> [u8; 32] {
        match self {
            Self::Address(address) => subject_of(core, address),
            Self::Mxid(user) => audit::subject(core.session_key(), user.as_str()),
        }
    }
}
