//! Hashing and checking the codes that go to telephones, a few at a time.
//!
//! Each costs tens of milliseconds and 19 MiB, so two are worked on at once and a bounded number
//! wait; whoever comes then is asked to come again, and nobody else's request waits for them.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    domain::{
        code::{CodeHash, code_from_random},
        ids::Token,
        refusal::Refusal,
    },
    ops::{Failure, random},
};

/// How many are worked on at the same time, which bounds the memory to twice 19 MiB.
const AT_ONCE: usize = 2;
/// How many may be worked on or wait: a few seconds' work.
const WAITING: usize = 100;

/// The pool in which codes are hashed.
pub struct Codes {
    waiting: Semaphore,
    at_once: Arc<Semaphore>,
}

impl Default for Codes {
    fn default() -> Self {
        Self { waiting: Semaphore::new(WAITING), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Codes {
    /// A new code, and what is kept of it.
    ///
    /// # Errors
    /// `LimitExceeded` if too many wait already.
    pub async fn make(&self) -> Result<(Token, CodeHash), Failure> {
        let (code, salt) = (code_from_random(random()), random());
        self.work(move || (CodeHash::of(&code, salt), code)).await.map(|(hash, code)| (code, hash))
    }

    /// Whether this is the code that was hashed.
    ///
    /// # Errors
    /// As [`Codes::make`].
    pub async fn matches(&self, hash: CodeHash, typed: Token) -> Result<bool, Failure> {
        self.work(move || hash.matches(&typed)).await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let busy = |_| Refusal::LimitExceeded { retry_after: Duration::from_secs(2) };
        let _place = self.waiting.try_acquire().map_err(busy)?;
        let turn = self.at_once.clone().acquire_owned().await;
        // The turn goes with the work, which goes on when its caller has gone away.
        let work = move || (work(), drop(turn)).0;
        Ok(spawn_blocking(work).await.expect("hashing does not panic"))
    }
}
