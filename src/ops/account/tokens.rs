//! Access tokens that requests show: whose they are, whether their account has accepted what has to be,
//! and which were used today.
//!
//! The answers are cached, since every request asks. One holds for the rest of the UTC day, or until a
//! token or a consent is removed or replaced. Making and revoking tokens is in [`super::accounts`].

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::sync::Cache;

use super::register::require_allowed;
use crate::{
    domain::{
        ids::{Token, UserId},
        refusal::Refusal,
        secret::SecretHash,
        time::Millis,
    },
    ops::{Core, Failure},
    store::{StoredToken, Tables, Transaction},
};

/// How many tokens are cached, in about 200 bytes each; those that are not used make room.
const CACHED: usize = 1 << 16;

/// How many uses are stored in one transaction.
const USES_BATCH: usize = 1024;

/// The account of a request, with the token that it showed. The account may be erased while the request is
/// under way, so whatever writes for it calls [`Authenticated::check`] in its transaction (design, P8).
#[derive(Clone)]
pub struct Authenticated {
    token: SecretHash,
    cached: Arc<CachedToken>,
}

/// What was found out of a token.
struct CachedToken {
    user_id: UserId,
    /// Whether the account has accepted all that has to be; if not, that may have changed.
    has_accepted: bool,
    /// The UTC day for which this holds: the first use on a day must be noted.
    day: u64,
    /// The state for which this holds, see [`crate::store::Snapshot::authorization`].
    authorization: u64,
}

impl Authenticated {
    /// The account.
    pub fn user_id(&self) -> &UserId {
        &self.cached.user_id
    }

    /// Checks that the token is still valid.
    ///
    /// # Errors
    /// `UnknownToken`.
    pub(in crate::ops) fn check<T: Transaction>(&self, tables: &Tables<T>) -> Result<(), Failure> {
        if tables.has_token(self.token)? { Ok(()) } else { Err(Refusal::UnknownToken.into()) }
    }

    /// Whether the token is still good when its request has been read, which may take a while.
    ///
    /// # Errors
    /// `UnknownToken`.
    pub fn recheck(&self, core: &Core) -> Result<(), Failure> {
        let snapshot = core.store.read();
        if self.cached.authorization != snapshot.authorization() {
            self.check(&snapshot)?;
        }
        Ok(())
    }

    /// Whether it is cached that the account has accepted all that has to be.
    pub(in crate::ops) fn is_known_to_have_accepted(&self) -> bool {
        self.cached.has_accepted
    }
}

/// The tokens that were shown.
pub struct Tokens {
    cached: Cache<[u8; 32], Arc<CachedToken>>,
    /// Those that were used today for the first time, until that is written down: an account that
    /// nobody uses is forgotten some day (design, P18).
    used: Mutex<HashSet<[u8; 32]>>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { cached: Cache::new(CACHED), used: Mutex::default() }
    }
}

impl Tokens {
    fn cache(&self, token: SecretHash, cached: CachedToken) -> Authenticated {
        let cached = Arc::new(cached);
        self.cached.insert(token.0, cached.clone());
        Authenticated { token, cached }
    }

    /// Caches that the account has accepted all that has to be, as was found in this state.
    pub(in crate::ops) fn cache_acceptance(&self, account: &Authenticated, authorization: u64) {
        let CachedToken { day, authorization: of_token, .. } = *account.cached;
        if of_token == authorization {
            let user_id = account.user_id().clone();
            self.cache(account.token, CachedToken { user_id, has_accepted: true, day, authorization });
        }
    }

    fn used(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds out whose access token this is.
///
/// # Errors
/// `UnknownToken`, or `HomeserverNotAllowed`.
pub fn authenticate(core: &Core, token: &Token) -> Result<Authenticated, Failure> {
    let (hash, day) = (SecretHash::of(token.as_str()), core.clock.now().day());
    let snapshot = core.store.read();
    let authorization = snapshot.authorization();
    let holds = |cached: &Arc<CachedToken>| cached.authorization == authorization && cached.day == day;
    let account = match core.tokens.cached.get(&hash.0).filter(holds) {
        Some(cached) => Authenticated { token: hash, cached },
        None => {
            let StoredToken { owner: user_id, used, .. } =
                snapshot.token(hash)?.ok_or(Refusal::UnknownToken)?;
            // Also if it was noted while the clock was wrong.
            if used.day() != day {
                core.tokens.used().insert(hash.0);
            }
            core.tokens.cache(hash, CachedToken { user_id, has_accepted: false, day, authorization })
        }
    };
    // An operator who takes a homeserver off the list means its users from now on, not from
    // their next registration on.
    if !core.config.homeservers.allow.is_empty() {
        require_allowed(core, account.user_id().server_name())?;
    }
    Ok(account)
}

/// Writes down that tokens were used, in bounded steps. `now` is the time that was looked at and believed.
///
/// # Errors
/// If the database fails; the uses that are left are written down the next time.
pub async fn note_uses(core: &Core, now: Millis) -> Result<(), Failure> {
    let used: Vec<_> = mem::take(&mut *core.tokens.used()).into_iter().collect();
    for (done, step) in used.chunks(USES_BATCH).enumerate() {
        let step = step.to_vec();
        let written = core.store.write(move |tables| {
            for hash in step {
                if let Some(token) = tables.token(SecretHash(hash))? {
                    tables.put_stored_token(&StoredToken { used: now, ..token })?;
                }
            }
            Ok(())
        });
        if let Err(error) = written.await {
            core.tokens.used().extend(used[done * USES_BATCH..].iter().copied());
            return Err(error.into());
        }
    }
    Ok(())
}
