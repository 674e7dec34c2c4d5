//! `bindery backup`: makes a backup, and says how far it is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::ops::{
    Core, Failure,
    backup::{self, Made},
};

/// Makes a backup. The process that has the database writes the file, so the path must be whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeBackup {
    /// The file; `None` for one in `backup.directory`.
    pub file: Option<PathBuf>,
}

impl Command for MakeBackup {
    const PATH: &'static str = "/backup";

    type Answer = Made;

    async fn run(self, core: &Core) -> Result<Made, Failure> {
        backup::make(core, self.file).await
    }
}

/// Asks how far the backup is that is being made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct GetBackupProgress;

/// The answer to [`GetBackupProgress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupProgress {
    /// How many rows are copied, of how many; `None` if no backup is being made.
    pub rows: Option<(u64, u64)>,
}

impl Command for GetBackupProgress {
    const PATH: &'static str = "/backup/progress";

    type Answer = BackupProgress;

    async fn run(self, core: &Core) -> Result<BackupProgress, Failure> {
        Ok(BackupProgress { rows: core.backups.rows() })
    }
}
