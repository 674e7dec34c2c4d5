//! `bindery audit`: who was shown, given or removed a person's data, and when.

use serde::{Deserialize, Serialize};

use super::{Command, Subject};
use crate::{
    domain::{audit::Entry, time::Millis},
    ops::{Core, Failure, person::audit},
};

/// Reads the audit, oldest entry first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadAudit {
    /// No entries before this time.
    pub since: Millis,
    /// Only entries about this person.
    pub about: Option<Subject>,
}

impl Command for ReadAudit {
    const PATH: &'static str = "/audit";

    type Answer = Vec<Entry>;

    async fn run(self, core: &Core) -> Result<Vec<Entry>, Failure> {
        let about = self.about.map(|subject| subject.audit_hashes(core));
        audit::list(core, self.since, about).await
    }
}
