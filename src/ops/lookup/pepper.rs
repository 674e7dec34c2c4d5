//! Replacing the pepper that addresses are hashed with, so that hashes that somebody has collected
//! become worthless (design, section 3, "Lookup index").
//!
//! A new pepper is prepared in bounded steps while the old one is in use, put in use in one
//! transaction, and the old one honoured for a little longer: no lookup fails meanwhile. Every step
//! may be the last before a crash; what is prepared then is prepared anew. When a pepper is replaced
//! by itself, is decided by `tasks`.

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
    store::{Reached, Store, StoreError},
};

/// How many addresses are worked on in one transaction, which others who write wait for.
const STEP: usize = 500;

/// A pepper of 24 letters and digits from the operating system's generator.
pub(in crate::ops) fn new() -> String {
    loop {
        if let Some(pepper) = pepper_from_random(&random::<64>()) {
            return pepper;
        }
    }
}

/// A pepper was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// How many addresses are found under the new one.
    pub addresses: u64,
}

/// A pepper that is being prepared.
pub struct Preparation {
    number: u64,
    reached: Option<Reached>,
}

impl Preparation {
    /// Begins, or begins anew with what a crash has interrupted.
    ///
    /// # Errors
    /// Only if the database fails.
    pub async fn begin(store: &Store, now: Millis) -> Result<Self, StoreError> {
        let pepper = new();
        let number = store.write(move |tables| {
            let unfinished = tables.peppers().iter().find(|index| index.state == PepperState::Next);
            unfinished.map(|index| index.number).map_or_else(|| tables.begin_pepper(&pepper, now), Ok)
        });
        Ok(Self { number: number.await?, reached: None })
    }

    /// Prepares it for at most `most` more addresses; `false` when there are no more.
    ///
    /// # Errors
    /// Only if the database fails.
    pub async fn step(&mut self, store: &Store, most: usize) -> Result<bool, StoreError> {
        let (number, reached) = (self.number, self.reached.take());
        self.reached = store.write(move |tables| tables.fill_index(number, reached.as_ref(), most)).await?;
        Ok(self.reached.is_some())
    }

    /// Puts it in use, if every published address is found under it and nothing else is.
    ///
    /// # Errors
    /// If the database fails. What was prepared wrongly is thrown away, and an error as well.
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
        let wrong =
            "the index under the new pepper was not complete; it was thrown away, and the pepper stays";
        checked.await?.ok_or_else(|| StoreError::new(wrong))
    }
}

/// Replaces the pepper.
///
/// # Errors
/// `Forbidden` while that is under way already.
pub async fn rotate(core: &Core, by: By) -> Result<Rotated, Failure> {
    let busy = |_| Refusal::Forbidden("The pepper is being replaced already; wait until that is done");
    let _alone = core.rotating.try_lock().map_err(busy)?;
    replace(core, by).await
}

async fn replace(core: &Core, by: By) -> Result<Rotated, Failure> {
    let Core { store, clock, .. } = core;
    let mut preparation = Preparation::begin(store, clock.now()).await?;
    loop {
        #[expect(clippy::disallowed_methods, reason = "how long a step takes is real time")]
        let began = Instant::now();
        if !preparation.step(store, STEP).await? {
            break;
        }
        pause::after_step(began).await;
    }
    Ok(preparation.put_in_use(store, clock.now(), by).await?)
}

/// What was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether a pepper was forgotten.
    pub forgotten: bool,
    /// The pepper was replaced.
    pub rotated: Option<Rotated>,
}

/// Does what is due: forgets peppers that may not be used any more, ends what was interrupted, and
/// replaces a pepper that was in use for its time.
///
/// # Errors
/// Only if the database fails.
pub async fn keep(core: &Core) -> Result<Kept, Failure> {
    let Ok(_alone) = core.rotating.try_lock() else { return Ok(Kept::default()) };
    let forgotten = forget(&core.store, core.clock.now()).await?;
    let is_due = is_due(core);
    let rotated = if is_due { Some(replace(core, By::Server).await?) } else { None };
    Ok(Kept { forgotten, rotated })
}

/// Forgets the peppers that may not be used any more; whether there were any.
///
/// # Errors
/// Only if the database fails.
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
        tables.keep_peppers_in_time(now, PEPPER_GRACE)?;
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
