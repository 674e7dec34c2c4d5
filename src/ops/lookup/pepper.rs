//! Rotates the pepper of the lookup hashes, so that collected hashes become worthless (design, section 3,
//! "Lookup index").
//!
//! A new pepper is prepared in bounded steps while the old one is in use. One transaction makes it current. The
//! old one is accepted for a grace period, so no lookup fails. If a crash interrupts the preparation, the
//! next start repeats it. `tasks::rotation` decides when to rotate.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        audit::{By, Deed, Entry},
        lookup::{PepperState, pepper_from_random},
        refusal::Refusal,
        retention::PEPPER_GRACE,
        time::{DAY, Millis},
    },
    ops::{Core, Failure, pause, random},
    store::{FillCursor, Store, StoreError},
};

/// How many addresses one transaction adds to the new index. Other writes wait for it.
const FILL_BATCH: usize = 500;

/// The error when a prepared pepper is dropped.
const INCOMPLETE: &str =
    "the index of the new pepper was incomplete: it was dropped, and the current pepper stays in use";

/// A pepper of 24 letters and digits from the operating system's generator.
pub(in crate::ops) fn new() -> String {
    loop {
        if let Some(pepper) = pepper_from_random(&random::<64>()) {
            return pepper;
        }
    }
}

/// The result of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The number of addresses in the new index.
    pub addresses: u64,
}

/// A pepper that is being prepared.
pub struct Preparation {
    number: u64,
    cursor: Option<FillCursor>,
}

impl Preparation {
    /// Begins a preparation, or restarts one that a crash interrupted.
    pub async fn begin(store: &Store, now: Millis) -> Result<Self, StoreError> {
        let pepper = new();
        let number = store.write(move |tables| {
            let unfinished = tables.peppers().iter().find(|index| index.state == PepperState::Next);
            unfinished.map(|index| index.number).map_or_else(|| tables.begin_pepper(&pepper, now), Ok)
        });
        Ok(Self { number: number.await?, cursor: None })
    }

    /// Adds at most `limit` more addresses to the new index. `false` when there are no more.
    pub async fn step(&mut self, store: &Store, limit: usize) -> Result<bool, StoreError> {
        let (number, cursor) = (self.number, self.cursor.take());
        self.cursor = store.write(move |tables| tables.fill_index(number, cursor.as_ref(), limit)).await?;
        Ok(self.cursor.is_some())
    }

    /// Makes the pepper current, if its index has as many entries as there are published addresses.
    ///
    /// # Errors
    /// If the index is incomplete. The prepared pepper is dropped then.
    pub async fn put_in_use(self, store: &Store, now: Millis, by: By) -> Result<Rotated, StoreError> {
        let number = self.number;
        let checked = store.write(move |tables| {
            let index = tables.peppers().iter().find(|index| index.number == number);
            let found = index.map(|index| index.len()).transpose()?;
            let published = tables.published()?;
            if found != Some(published) {
                tables.drop_pepper(number)?;
                return Ok(None);
            }
            tables.switch_pepper(number, now, now.after(PEPPER_GRACE))?;
            tables.put_audit(&Entry { at: now, deed: Deed::PepperRotation, by, subject: None })?;
            Ok(Some(Rotated { addresses: published }))
        });
        checked.await?.ok_or(StoreError::Inconsistent(INCOMPLETE))
    }
}

/// Rotates the pepper.
///
/// # Errors
/// `Forbidden` if a rotation is running.
pub async fn rotate(core: &Core, by: By) -> Result<Rotated, Failure> {
    let busy =
        |_| Refusal::Forbidden("A rotation of the pepper is already running; wait until it has finished");
    let _alone = core.rotating.try_lock().map_err(busy)?;
    replace(core, by).await
}

async fn replace(core: &Core, by: By) -> Result<Rotated, Failure> {
    let Core { store, clock, .. } = core;
    let mut preparation = Preparation::begin(store, clock.now()).await?;
    loop {
        #[expect(clippy::disallowed_methods, reason = "how long a step takes is real time")]
        let began = Instant::now();
        if !preparation.step(store, FILL_BATCH).await? {
            break;
        }
        pause::after_step(began).await;
    }
    Ok(preparation.put_in_use(store, clock.now(), by).await?)
}

/// What [`keep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether an expired pepper was dropped.
    pub forgotten: bool,
    /// The rotation, if one was due.
    pub rotated: Option<Rotated>,
}

/// Does what is due: drops expired peppers, finishes an interrupted rotation, and rotates a pepper that has
/// reached its age.
pub async fn keep(core: &Core) -> Result<Kept, Failure> {
    let Ok(_alone) = core.rotating.try_lock() else { return Ok(Kept::default()) };
    let forgotten = forget(&core.store, core.clock.now()).await?;
    let is_due = is_due(core);
    let rotated = if is_due { Some(replace(core, By::Server).await?) } else { None };
    Ok(Kept { forgotten, rotated })
}

/// Drops the peppers that may not be used any more. Returns whether there were any.
pub async fn forget(store: &Store, now: Millis) -> Result<bool, StoreError> {
    let is_late = store
        .read()
        .peppers()
        .iter()
        .any(|index| index.state.is_over(now) || index.is_in_future(now, PEPPER_GRACE));
    if !is_late {
        return Ok(false);
    }
    let forgotten = store.write(move |tables| {
        tables.correct_pepper_times(now, PEPPER_GRACE)?;
        tables.drop_peppers(now)
    });
    forgotten.await
}

fn is_due(core: &Core) -> bool {
    let snapshot = core.store.read();
    let period = DAY * core.config.lookup.pepper_rotation_days.get();
    let is_interrupted = snapshot.peppers().iter().any(|index| index.state == PepperState::Next);
    is_interrupted || core.clock.now() >= snapshot.index().created.after(period)
}
