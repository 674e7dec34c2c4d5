//! One message of a session at a time.
//!
//! A client that loses patience repeats its request while the first mail is still on its way to
//! the relay. The repetition waits here, and then sees that there is nothing left to send.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

type Locks = Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>>;

/// The sessions that a message is being sent for.
#[derive(Default)]
pub struct Sending(Locks);

/// The right to send for one session, until it is dropped.
pub struct Turn<'a> {
    locks: &'a Locks,
    session: [u8; 32],
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Sending {
    /// Waits until nobody else sends for this session.
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
        // Those who wait hold a reference of their own.
        if locks.get(&self.session).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.session);
        }
    }
}
