//! A lock for each session, so that only one of its messages is sent, and one of its tokens checked, at a time.
//!
//! A client whose request times out repeats it while the first mail is still being sent. The repeated request
//! waits here and then finds nothing left to send. Tokens that are submitted at once are counted one by one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

type Locks = Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>>;

/// The locks of the sessions in use.
#[derive(Default)]
pub struct SessionLocks(Locks);

/// The lock of one session, held until it is dropped.
pub struct Turn<'a> {
    locks: &'a Locks,
    session: [u8; 32],
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl SessionLocks {
    /// Waits until no other request has the lock of this session.
    pub async fn turn(&self, session: [u8; 32]) -> Turn<'_> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(session).or_default().clone()
        };
        Turn { locks: &self.0, session, held: Some(lock.lock_owned().await) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // Each waiting request holds a reference.
        if locks.get(&self.session).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.session);
        }
    }
}
