//! The share of each registrable domain in the connections to the relay: a relay that is slow about one domain must
//! not hold up the mails to others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The shares of all domains.
pub(super) struct Shares {
    max: usize,
    used: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Shares {
    /// Each domain may have `max` mails under way at a time, at least one.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), used: Mutex::default() }
    }

    /// How many mails to one domain may be under way.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Waits until another mail to `domain` may be under way.
    pub(super) async fn take(&self, domain: &str) -> Option<OwnedSemaphorePermit> {
        let share = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.retain(|_, share| share.strong_count() > 0);
            let share = used.get(domain).and_then(Weak::upgrade);
            let share = share.unwrap_or_else(|| Arc::new(Semaphore::new(self.max)));
            used.insert(domain.to_owned(), Arc::downgrade(&share));
            share
        };
        // The semaphore is never closed, so there is always a permit.
        share.acquire_owned().await.ok()
    }
}
