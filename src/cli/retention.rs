//! `bindery retention`: what is held and until when, and a round of deleting now.

use super::{control::Data, say, table::Table};
use crate::{
    config::Config,
    domain::time::Millis,
    http::control::retention::{RUN, STATUS, Status, run_on, status_of},
    ops::retention::Deleted,
};

/// Prints every rule with what it holds now.
pub fn status(config: Config, json: bool) -> anyhow::Result<()> {
    let status: Status = Data::find(config)?.run(STATUS, &(), async |core: &_| Ok(status_of(core).await?))?;
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&status)?));
    }
    let mut table = Table::new(["what", "kept", "rows", "oldest (UTC)", "first goes (UTC)"]);
    for rule in &status.rules {
        let time = |time: Option<Millis>| time.map_or_else(|| "-".to_owned(), Millis::utc);
        table.row([&rule.what, &rule.rule, &rule.rows.to_string(), &time(rule.oldest), &time(rule.goes)]);
    }
    say(&table.to_string())?;
    if status.halted {
        say(
            "\nThe clock has jumped, so nothing is deleted for its age. When the time is right, run 'bindery retention run'.\n",
        )?;
    }
    Ok(())
}

/// Deletes what has reached its age now, and says how much that was.
pub fn run(config: Config) -> anyhow::Result<()> {
    let deleted: Deleted = Data::find(config)?.run(RUN, &(), async |core: &_| Ok(run_on(core).await?))?;
    let counts = [
        (deleted.sessions, "validation sessions"),
        (deleted.invitations, "invitations"),
        (deleted.visits, "visits"),
        (deleted.outbox, "mails and messages that could not be sent"),
        (deleted.tokens, "access tokens"),
        (deleted.consents, "accepted documents"),
        (deleted.audit, "entries of the audit"),
    ];
    let parts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let parts: Vec<String> = parts.collect();
    match parts.is_empty() {
        true => say("Nothing had reached its age.\n")?,
        false => say(&format!("Deleted: {}.\n", parts.join(", ")))?,
    }
    if deleted.rewritten {
        say("The file was rewritten: nothing that was deleted before is left in it.\n")?;
    }
    Ok(())
}
