//! `bindery backup`: makes a backup, or checks one.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget};

use super::{
    WithConfig,
    control::{Database, runtime},
    print,
    table::Table,
};
use crate::{
    admin::{BackupProgress, GetBackupProgress, MakeBackup},
    config::Config,
    ops::backup::Made,
    store::backup::{Contents, verify},
};

/// How often the progress is asked for.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// The arguments.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BackupArguments {
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// The file for the backup; without one it goes into backup.directory, named by the time
    file: Option<PathBuf>,
    #[command(flatten)]
    with: WithConfig,
}

#[derive(clap::Subcommand)]
enum BackupCommand {
    /// Check that a backup can be restored, and print what is in it; needs no configuration
    Verify {
        /// The backup
        file: PathBuf,
    },
}

/// Runs the command.
pub fn backup(BackupArguments { command, file, with }: BackupArguments) -> anyhow::Result<()> {
    match command {
        Some(BackupCommand::Verify { file }) => print_contents(&file),
        None => make(with.load()?, file),
    }
}

fn make(config: Config, file: Option<PathBuf>) -> anyhow::Result<()> {
    // The running server writes the file, and its working directory is another.
    let file = file.map(std::path::absolute).transpose().context("cannot use this name for a backup")?;
    if let Some(file) = &file {
        file.to_str().with_context(|| format!("{} is not UTF-8: choose another name", file.display()))?;
    }
    let Made { path, contents } = runtime()?.block_on(make_with_progress(config, file))?;
    let Contents { rows, queued_mails, .. } = contents;
    let bindings = rows.map(|rows| rows.bindings).unwrap_or_default();
    let mails = match queued_mails {
        0 => String::new(),
        mails => format!(" Mails that are still queued, and are not in it: {mails}."),
    };
    print(&format!(
        "The backup {} is written and checked. Published addresses in it: {bindings}.{mails}\nIt holds the keys of the server and personal data: keep it as secret as the data directory.\n",
        path.display()
    ))
}

async fn make_with_progress(config: Config, file: Option<PathBuf>) -> anyhow::Result<Made> {
    let database = Database::find(config).await?;
    let mut made = pin!(database.run(MakeBackup { file }));
    let is_terminal = std::io::stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    loop {
        tokio::select! {
            made = &mut made => {
                bar.finish_and_clear();
                return made;
            }
            () = tokio::time::sleep(PROGRESS_INTERVAL), if is_terminal => {
                // An error of this would be an error of the backup, too.
                if let Ok(BackupProgress { rows: Some((done, total)) }) = database.run(GetBackupProgress).await {
                    bar.set_length(total);
                    bar.set_position(done);
                }
            }
        }
    }
}

fn print_contents(file: &Path) -> anyhow::Result<()> {
    let Contents { server_name, made, schema, queued_mails, rows } = verify(file)?;
    let mut table = Table::new([&format!("{} is whole.", file.display()), ""]);
    table.row(["server name", &server_name]);
    table.row(["made", &format!("{} UTC", made.utc())]);
    table.row(["schema", &schema.to_string()]);
    match rows {
        Some(rows) => {
            let counts = [
                ("published addresses", rows.bindings),
                ("pending invitations", rows.invitations),
                ("access tokens", rows.tokens),
                ("accepted documents", rows.consents),
                ("addresses that opted out", rows.suppressed),
                ("audit entries", rows.audit),
            ];
            counts.iter().for_each(|(what, count)| table.row([what, &count.to_string()]));
        }
        None => table.row(["rows", "not counted: an earlier version made it, and a restore migrates it"]),
    }
    table.row(["mails that were queued", &format!("{queued_mails} (not in it)")]);
    print(&table.to_string())
}
