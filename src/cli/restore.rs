//! `bindery restore`: puts a backup in the place of the database, and says what it cannot bring back or remove.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::{
    WithConfig,
    control::{RunningServer, runtime},
    print,
};
use crate::{
    app::SystemClock,
    config::Config,
    domain::{
        clock::Clock,
        retention::old_copies,
        time::{DAY, Millis},
    },
    ops::restore::{Restored, finish, is_same_database, require_restorable},
    store::{
        DATABASE_FILE, OldDatabase,
        backup::{Contents, restore::Restoring},
    },
};

/// The arguments.
#[derive(clap::Args)]
pub struct RestoreArguments {
    /// The backup
    file: PathBuf,
    /// Replace the database that is there; it is kept beside the new one for a few days
    #[arg(long)]
    replace: bool,
    /// An old data directory: what people removed there since the backup is removed again
    #[arg(long, value_name = "DIRECTORY")]
    erasures_from: Option<PathBuf>,
    #[command(flatten)]
    with: WithConfig,
}

/// Runs the command.
pub fn restore(arguments: RestoreArguments) -> anyhow::Result<()> {
    let RestoreArguments { file, replace, erasures_from, with } = arguments;
    let (config, now) = (with.load()?, SystemClock.now());
    let dir = config.data_dir.display();
    if RunningServer::find(&config)?.is_some() {
        bail!("a server runs on {dir}: stop it first ('systemctl stop bindery'), then restore");
    }
    let restoring = Restoring::begin(&config.data_dir)?;
    if restoring.has_database() && !replace {
        bail!(
            "there is a database in {dir}, and a restore loses what was stored since the backup: 'bindery restore --replace {}' replaces it, keeps it beside the new one for some days, and removes again what it knows was removed since the backup",
            file.display()
        );
    }
    let mut old = Vec::new();
    if restoring.has_database() {
        old.push(read_old(restoring.database())?);
    }
    if let Some(directory) = &erasures_from {
        let path = if directory.is_dir() { directory.join(DATABASE_FILE) } else { directory.clone() };
        old.push(read_old(&path)?);
    }
    let restored = build(&config, &restoring, &file, &old, now);
    let kept = restored.and_then(|report| Ok((report, restoring.put_in_place(now)?)));
    if kept.is_err() {
        restoring.abandon();
    }
    let (Report { contents, restored, unknown }, kept) = kept?;
    print_restored(&contents, restored, kept.as_deref(), &config)?;
    let mut stderr = std::io::stderr();
    unknown.iter().try_for_each(|line| writeln!(stderr, "{line}"))?;
    print("Now start the server.\n")
}

/// An old database, with its path for messages. `None` if nothing in it can be read.
type Old = (PathBuf, Option<OldDatabase>);

fn read_old(path: &Path) -> anyhow::Result<Old> {
    Ok((path.to_owned(), OldDatabase::read(path)?))
}

/// What a restore did, and what it cannot know.
struct Report {
    contents: Contents,
    restored: Restored,
    unknown: Vec<String>,
}

fn build(
    config: &Config,
    restoring: &Restoring,
    file: &Path,
    old: &[Old],
    now: Millis,
) -> anyhow::Result<Report> {
    let contents = restoring.copy(file)?;
    require_restorable(config, &contents, now)
        .with_context(|| format!("cannot restore {}", file.display()))?;
    let store = restoring.open(&config.name(), now)?;
    let (mut knowing, mut unknown) = (Vec::new(), Vec::new());
    let since = contents.made.utc();
    for (path, old) in old {
        let path = path.display();
        match old {
            None => {
                unknown.push(format!("Warning: nothing in {path} can be read, so it tells of no removal."))
            }
            Some(old) if !is_same_database(&store, old)? => unknown.push(format!(
                "Warning: {path} is another database, with other keys, so it tells of no removal."
            )),
            Some(old) => {
                if !old.is_whole() {
                    unknown.push(format!(
                        "Warning: {path} is damaged or of another version. The removals that it still tells of were applied; there may have been others."
                    ));
                }
                knowing.push(old);
            }
        }
    }
    if knowing.is_empty() {
        unknown.push(format!(
            "Warning: Bindery cannot know what people removed, unbound or opted out of after {since} UTC. All of that is back. If you still have the old data directory, restore again with --erasures-from; otherwise tell the people whom you know of, and erase for them with 'bindery erase'."
        ));
    }
    let restored = runtime()?.block_on(async { finish(&store, &knowing, config, now).await })?;
    // Closes the database.
    drop(store);
    Ok(Report { contents, restored, unknown })
}

fn print_restored(
    contents: &Contents,
    restored: Restored,
    kept: Option<&Path>,
    config: &Config,
) -> anyhow::Result<()> {
    let dir = config.data_dir.display();
    print(&format!("The backup of {} UTC is restored in {dir}.\n", contents.made.utc()))?;
    let Restored { unbound, invitations, tokens, consents, opted_out, queued } = restored;
    let counts = [
        (unbound, "published addresses"),
        (invitations, "invitations"),
        (tokens, "access tokens"),
        (consents, "accounts' accepted documents"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let removed: Vec<_> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    if !removed.is_empty() {
        print(&format!(
            "Removed again, because they were removed after the backup: {}.\n",
            removed.join(", ")
        ))?;
    }
    if opted_out > 0 {
        print(&format!("Addresses that opted out of messages after the backup: {opted_out}.\n"))?;
    }
    if queued > 0 {
        print(&format!("Homeservers that will be told of an accepted invitation: {queued} calls.\n"))?;
    }
    if contents.queued_mails > 0 {
        print(&format!(
            "Mails that were queued when the backup was made, and cannot be sent again: {}.\n",
            contents.queued_mails
        ))?;
    }
    if let Some(kept) = kept {
        let days = old_copies(config.privacy.deleted_binding()).as_secs() / DAY.as_secs();
        print(&format!(
            "The replaced database is kept as {} for {days} days at most. It holds personal data.\n",
            kept.display()
        ))?;
    }
    Ok(())
}
