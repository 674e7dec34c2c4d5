//! What the operator's monitoring asks: the values that are read at each scrape, whether the server is ready, and
//! what the database holds. All of it is counts and times, and names no person.

mod database;
mod outbox;
mod readiness;

pub use self::{
    database::{DatabaseStatus, OutboxStatus},
    outbox::Monitor,
    readiness::{Readiness, readiness},
};
use super::{Core, Failure};
use crate::{
    domain::{lookup::PepperState, time::Millis},
    metrics::Observed,
    store::{Tables, Transaction},
};

/// Reads what the metrics show about the database and the disk.
pub async fn observe(core: &Core) -> Result<Observed, Failure> {
    let outbox = core.monitor.waiting(core).await?;
    let (snapshot, room) = (core.store.read(), core.store.room()?);
    let counts = snapshot.counts()?;
    Ok(Observed {
        bindings: counts.associations,
        tokens: counts.tokens,
        database_bytes: room.used,
        free_bytes: room.free,
        outbox,
        rewritten: snapshot.rewritten()?,
        rotated: rotated(&snapshot),
        backed_up: snapshot.backed_up()?,
    })
}

/// When the current pepper came into use.
fn rotated<T: Transaction>(tables: &Tables<T>) -> Option<Millis> {
    let current = tables.peppers().iter().find(|index| index.state == PepperState::Current);
    current.map(|index| index.created)
}

/// What the database of the running server holds.
pub async fn database_status(core: &Core) -> Result<DatabaseStatus, Failure> {
    let outbox = core.monitor.waiting(core).await?;
    let status = core.store.scan(move |scan| DatabaseStatus::with_outbox(scan, outbox));
    Ok(status.await?)
}
