//! `bindery erase`: erases everything about a person.

use serde::{Deserialize, Serialize};

use super::{Command, Subject};
use crate::{
    domain::audit::By,
    ops::{
        Core, Failure,
        person::erasure::{self, Erased},
    },
};

/// Erases everything about this person.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Erase(pub Subject);

impl Command for Erase {
    const PATH: &'static str = "/erase";

    type Answer = Erased;

    async fn run(self, core: &Core) -> Result<Erased, Failure> {
        match self.0 {
            Subject::Address(address) => erasure::erase_address(core, address, By::Operator).await,
            Subject::Mxid(user) => erasure::erase_account(core, user, By::Operator).await,
        }
    }
}
