//! `bindery erase`: shows what is stored about a person, and erases it.

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

/// Counts what [`Erase`] would erase.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PreviewErasure(pub Subject);

impl Command for PreviewErasure {
    const PATH: &'static str = "/erase/preview";

    type Answer = Erased;

    async fn run(self, core: &Core) -> Result<Erased, Failure> {
        match self.0 {
            Subject::Address(address) => erasure::count_address(core, &address),
            Subject::Mxid(user) => erasure::count_account(core, &user),
        }
    }
}

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
