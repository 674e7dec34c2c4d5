//! The operator's commands: one file each, named as the command is typed.
//!
//! A [`Command`] is a value. The command line sends it to the running server through the control
//! socket, or opens the database and runs it itself. Both call the same [`Command::run`], so a
//! command may need nothing but a [`Core`]: no task, no listener, no homeserver.
//!
//! To add one: a file here, a line in `http/control.rs`, and its arguments and output in `cli`.

mod audit;
mod backup_make;
mod erase;
mod export;
pub mod input;
mod invitations_cancel;
mod log_read;
mod pepper_rotate;
mod retention_run;
mod retention_status;
mod status;
mod subject;
mod suppression_check;
mod suppression_lift;
mod terms_plan;

use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    audit::ReadAudit,
    backup_make::{BackupProgress, GetBackupProgress, MakeBackup},
    erase::{Erase, PreviewErasure},
    export::Export,
    invitations_cancel::{CancelInvitations, Cancelled},
    log_read::NoteLogReading,
    pepper_rotate::RotatePepper,
    retention_run::RunRetention,
    retention_status::{GetRetentionStatus, RetentionStatus},
    status::{GetStatus, Status},
    subject::Subject,
    suppression_check::{CheckSuppression, Suppression},
    suppression_lift::LiftSuppression,
    terms_plan::PlanTerms,
};
use crate::ops::{Core, Failure};

/// What an operator can have done. Its JSON is the request body, and its values are domain values:
/// what cannot be parsed never reaches `run`.
pub trait Command: Serialize + DeserializeOwned + Send + 'static {
    /// Its path on the control socket.
    const PATH: &'static str;

    /// What `run` answers.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Does it. The server does not cancel this when the caller hangs up.
    fn run(self, core: &Core) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;
}
