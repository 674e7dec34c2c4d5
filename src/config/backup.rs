//! `[backup]`: where backups go, and how long one may be kept.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, at_least_one};
use crate::domain::{
    retention::{Period, most_backup_days},
    time::DAY,
};

/// Where backups go, and how long one may be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// The directory outside data_dir into which "bindery backup" without a file name writes; this server deletes old backups in it.
    pub directory: Option<PathBuf>,
    /// How many days a backup is kept; together with the one day for which the notice to its owner may keep a removed address, at most privacy.deleted_binding_days.
    pub keep_days: NonZeroU32,
}

impl Default for Backup {
    fn default() -> Self {
        Self { directory: None, keep_days: at_least_one(7) }
    }
}

impl Backup {
    /// How long a backup is kept.
    pub fn kept(&self) -> Duration {
        DAY.saturating_mul(self.keep_days.get())
    }
}

impl Config {
    /// The problems of `[backup]`, for [`Config::check`].
    pub(super) fn wrong_backups(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (keep, deleted) = (self.backup.keep_days.get(), self.privacy.deleted_binding_days.get());
        let most = most_backup_days(deleted);
        if keep > most {
            let limit = Period::DeletedBinding.limit();
            let longer = if keep <= most_backup_days(limit.most_days) {
                format!(", or {} to {} or more", limit.key, keep + deleted.saturating_sub(most))
            } else {
                String::new()
            };
            problems.push(format!(
                "backup.keep_days: {keep} days in a backup and a day before that are longer than {} ({deleted}); set backup.keep_days to {most} or less{longer}; the policy says: {}",
                limit.key,
                limit.sentence.unwrap_or_default(),
            ));
        }
        if let Some(directory) = &self.backup.directory {
            if directory.starts_with(&self.data_dir) {
                problems.push(format!(
                    "backup.directory: '{}' must be a directory outside data_dir, best on another disk; a backup inside it is lost with the database",
                    directory.display()
                ));
            }
            if directory.is_relative() {
                problems.push(format!(
                    "backup.directory: '{}' must begin with a slash, because commands run in other directories than the server",
                    directory.display()
                ));
            }
        }
        problems
    }
}
