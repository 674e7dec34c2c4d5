//! Logins: whose access token a request has shown, and which tokens are in use at all.
//!
//! What was found out is remembered in memory for as long as nothing was taken from any account, since
//! every request asks and the answer is nearly always the one from before.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::sync::Cache;

use super::{Core, Failure, accounts::require_allowed};
use crate::{
    domain::{
        ids::{Token, UserId},
        refusal::Refusal,
        secret::SecretHash,
        time::Millis,
    },
    store::{StoreError, StoredToken, Tables, Transaction},
};

/// How many tokens are remembered, in about 200 bytes each; those that are not used make room.
const MOST: usize = 1 << 16;

/// Somebody who has shown an access token that was good then. Whatever is written for them asks once
/// more, in its transaction: nothing may come back after an erasure (design, P8).
#[derive(Clone)]
pub struct Login {
    token: SecretHash,
    known: Arc<Known>,
}

/// What is remembered of a token.
struct Known {
    owner: UserId,
    /// The UTC day on which it was used.
    day: u64,
    /// Whether the owner has accepted all that has to be.
    has_accepted: bool,
    /// The state that this is from, see [`crate::store::Snapshot::logins`].
    state: u64,
}

impl Login {
    /// The account.
    pub fn owner(&self) -> &UserId {
        &self.known.owner
    }

    /// Whether the token is still good.
    ///
    /// # Errors
    /// `UnknownToken`; the outer one if the database fails.
    pub(super) fn check<T: Transaction>(
        &self,
        tables: &Tables<T>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        Ok(if tables.has_token(self.token)? { Ok(()) } else { Err(Refusal::UnknownToken) })
    }

    /// Whether it is remembered that the account has accepted all that has to be.
    pub(super) fn has_accepted(&self) -> bool {
        self.known.has_accepted
    }
}

/// The tokens that were shown.
pub struct Logins {
    known: Cache<[u8; 32], Arc<Known>>,
    /// Those that were used today for the first time, until that is written down: an account that
    /// nobody uses is forgotten some day (design, P18).
    used: Mutex<HashMap<[u8; 32], Millis>>,
}

impl Default for Logins {
    fn default() -> Self {
        Self { known: Cache::new(MOST), used: Mutex::default() }
    }
}

impl Logins {
    fn remember(&self, token: SecretHash, known: Known) -> Login {
        let known = Arc::new(known);
        self.known.insert(token.0, known.clone());
        Login { token, known }
    }

    /// Remembers that the account had accepted all that has to be, in this state of the database.
    pub(super) fn remember_accepted(&self, login: &Login, state: u64) {
        let Known { owner, day, state: from, .. } = &*login.known;
        if *from == state {
            let owner = owner.clone();
            self.remember(login.token, Known { owner, day: *day, has_accepted: true, state });
        }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<[u8; 32], Millis>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds out whose access token this is.
///
/// # Errors
/// `UnknownToken`, or `HomeserverNotAllowed`.
pub fn authenticate(core: &Core, token: &Token) -> Result<Login, Failure> {
    let (hash, now) = (SecretHash::of(token.as_str()), core.clock.now());
    let snapshot = core.store.read();
    let is_current = |known: &Arc<Known>| known.state == snapshot.logins() && known.day == now.day();
    let login = match core.logins.known.get(&hash.0).filter(is_current) {
        Some(known) => Login { token: hash, known },
        None => {
            let StoredToken { owner, used, .. } = snapshot.token(hash)?.ok_or(Refusal::UnknownToken)?;
            // Also if it was noted while the clock was wrong.
            if used.day() != now.day() {
                core.logins.used().insert(hash.0, now);
            }
            let known = Known { owner, day: now.day(), has_accepted: false, state: snapshot.logins() };
            core.logins.remember(hash, known)
        }
    };
    // An operator who takes a homeserver off the list means its users from now on, not from
    // their next registration on.
    if !core.config.homeservers.allow.is_empty() {
        require_allowed(core, login.owner().server_name())?;
    }
    Ok(login)
}

/// Writes down which tokens were used, in bounded steps.
///
/// # Errors
/// If the database fails; what is not written down yet is the next time.
pub async fn note_uses(core: &Core) -> Result<(), Failure> {
    let used: Vec<_> = mem::take(&mut *core.logins.used()).into_iter().collect();
    for (done, step) in used.chunks(STEP).enumerate() {
        let step = step.to_vec();
        let written = core.store.write(move |tables| {
            for (hash, now) in step {
                if let Some(token) = tables.token(SecretHash(hash))? {
                    tables.put_stored_token(&StoredToken { used: now, ..token })?;
                }
            }
            Ok(())
        });
        if let Err(error) = written.await {
            core.logins.used().extend(used[done * STEP..].iter().copied());
            return Err(error.into());
        }
    }
    Ok(())
}

/// How many uses are written down in one transaction.
const STEP: usize = 1024;
