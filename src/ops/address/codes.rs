//! Hashes and checks the codes that are sent to phones, with bounded concurrency.
//!
//! Each hash takes tens of milliseconds and 19 MiB. So two run at a time, in memory that is kept, and a bounded
//! number queue. Beyond that, the caller must retry later. Other requests do not wait for a hash.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    domain::{
        code::{CodeHash, Memory, code_from_random},
        ids::Token,
        refusal::Refusal,
    },
    ops::{Failure, random},
};

/// How many hashes run at a time. The first ones take 19 MiB each, which are used again and never freed.
const MAX_RUNNING: usize = 2;
/// How many hashes may run or queue: a few seconds of work.
const MAX_QUEUED: usize = 100;

/// Bounds how many codes are hashed at a time.
pub struct Codes {
    queue: Semaphore,
    running: Arc<Semaphore>,
    /// The memory of the hashes that do not run now.
    free: Arc<Mutex<Vec<Memory>>>,
}

impl Default for Codes {
    fn default() -> Self {
        Self {
            queue: Semaphore::new(MAX_QUEUED),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            free: Arc::default(),
        }
    }
}

impl Codes {
    /// A new code and its hash.
    ///
    /// # Errors
    /// `LimitExceeded` if the queue is full.
    pub async fn make(&self) -> Result<(Token, CodeHash), Failure> {
        let (code, salt) = (code_from_random(random()), random());
        self.work(move |memory| (CodeHash::of(&code, salt, memory), code))
            .await
            .map(|(hash, code)| (code, hash))
    }

    /// Whether `typed` is the code with this hash.
    ///
    /// # Errors
    /// `LimitExceeded` if the queue is full.
    pub async fn matches(&self, hash: CodeHash, typed: Token) -> Result<bool, Failure> {
        self.work(move |memory| hash.matches(&typed, memory)).await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let busy = |_| Refusal::LimitExceeded { retry_after: Duration::from_secs(2) };
        let _place = self.queue.try_acquire().map_err(busy)?;
        let (permit, free) = (self.running.clone().acquire_owned().await, self.free.clone());
        // The permit moves into the work, which continues even if the caller disconnects.
        let work = move || {
            let mut memory = lock(&free).pop().unwrap_or_default();
            let result = work(&mut memory);
            lock(&free).push(memory);
            drop(permit);
            result
        };
        Ok(spawn_blocking(work).await.expect("hashing does not panic"))
    }
}

fn lock(free: &Mutex<Vec<Memory>>) -> std::sync::MutexGuard<'_, Vec<Memory>> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}
