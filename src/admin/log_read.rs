//! The audit entry of `bindery log`, which reads the files of the logs itself.

use serde::{Deserialize, Serialize};

use super::{Command, Subject};
use crate::ops::{Core, Failure, person::audit};

/// Records that the operator reads a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteLogReading {
    /// The account, if only its rows are read.
    pub about: Option<Subject>,
}

impl Command for NoteLogReading {
    const PATH: &'static str = "/log/note-reading";

    type Answer = ();

    async fn run(self, core: &Core) -> Result<(), Failure> {
        let about = self.about.and_then(|subject| subject.audit_hashes(core).first().copied());
        audit::note_log_reading(core, about).await
    }
}
