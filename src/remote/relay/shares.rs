//! Shares of the connections to the relay: of the mails to one registrable domain, or of those that one asker waits for.
//! A relay that is slow about a domain must not hold up the mails to others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The shares of all domains, or of all askers.
pub(super) struct Shares {
    max: usize,
    used: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Shares {
    /// Each may have `max` mails under way at a time, at least one.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), used: Mutex::default() }
    }

    /// How many mails of one share may be under way.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Waits until another mail of this domain or asker may be under way.
    pub(super) async fn take(&self, name: &str) -> Option<OwnedSemaphorePermit> {
        let share = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.retain(|_, share| share.strong_count() > 0);
            let share = used.get(name).and_then(Weak::upgrade);
            let share = share.unwrap_or_else(|| Arc::new(Semaphore::new(self.max)));
            used.insert(name.to_owned(), Arc::downgrade(&share));
            share
        };
        // The semaphore is never closed, so there is always a permit.
        share.acquire_owned().await.ok()
    }
}
