//! `bindery export`: a copy of everything that is stored about a person.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Command, Subject};
use crate::{
    domain::audit::By,
    ops::{Core, Failure, person::export},
};

/// Exports everything that is stored about this person.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Export(pub Subject);

impl Command for Export {
    const PATH: &'static str = "/export";

    /// The document of `docs/export.schema.json`. Bindery only writes it, so there is no type to
    /// read it into.
    type Answer = Value;

    async fn run(self, core: &Core) -> Result<Value, Failure> {
        let document = match self.0 {
            Subject::Address(address) => export::of_address(core, &address, By::Operator).await?,
            Subject::Mxid(user) => export::of_account(core, &user, By::Operator).await?,
        };
        Ok(json!(document))
    }
}
