//! Authenticates access tokens: finds the account of a token, caches whether it accepted the terms, and records
//! the day of each token's last use.
//!
//! The result is cached, because every request needs it. An entry expires at the end of the UTC day, or when a
//! token or a consent is removed or replaced. [`super::register`] issues tokens, and [`super::logout`] revokes
//! them.

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
    ops::{Core, Failure, lookup::budget::AccountBudgetKeys},
    store::{StoredToken, Tables, Transaction},
};

/// How many tokens are cached, in about 250 bytes each. Unused ones are evicted.
const CACHED_TOKENS: usize = 1 << 16;

/// How many uses are stored in one transaction.
const USES_BATCH: usize = 1024;

/// The account of a request, and the token that authenticated it. The account may be erased during the request,
/// so a transaction that writes for it must call [`Authenticated::check`] (design, P8).
#[derive(Clone)]
pub struct Authenticated {
    token: SecretHash,
    cached: Arc<CachedToken>,
}

/// What is cached about a token.
#[derive(Clone)]
struct CachedToken {
    user_id: UserId,
    budget_keys: AccountBudgetKeys,
    /// The edition of the notice with which the account has accepted all required documents. `None` means unknown:
    /// it may have accepted them since.
    accepted_with: Option<u64>,
    /// The UTC day on which this entry is valid. The first use on each day must be recorded.
    day: u64,
    /// The state in which this entry is valid, see [`crate::store::Snapshot::authorization`].
    authorization: u64,
}

impl Authenticated {
    /// The account.
    pub fn user_id(&self) -> &UserId {
        &self.cached.user_id
    }

    /// The keys of the lookup budgets of the account and its domain.
    pub(in crate::ops) fn budget_keys(&self) -> &AccountBudgetKeys {
        &self.cached.budget_keys
    }

    /// Checks that the token is still valid.
    ///
    /// # Errors
    /// `UnknownToken`.
    pub(in crate::ops) fn check<T: Transaction>(&self, tables: &Tables<T>) -> Result<(), Failure> {
        if tables.has_token(self.token)? { Ok(()) } else { Err(Refusal::UnknownToken.into()) }
    }

    /// Checks again that the token is valid, after reading the request, which may take long.
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

    /// Whether the cache says that the account has accepted all documents that are required with this edition.
    pub(in crate::ops) fn is_known_to_have_accepted(&self, edition: u64) -> bool {
        self.cached.accepted_with == Some(edition)
    }
}

/// The cached tokens, and the uses that are not stored yet.
pub struct Tokens {
    cached: Cache<[u8; 32], Arc<CachedToken>>,
    /// The tokens whose first use today is not stored yet. Retention revokes tokens that are unused for long
    /// (design, P18).
    used: Mutex<HashSet<[u8; 32]>>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { cached: Cache::new(CACHED_TOKENS), used: Mutex::default() }
    }
}

impl Tokens {
    fn cache(&self, token: SecretHash, cached: CachedToken) -> Authenticated {
        let cached = Arc::new(cached);
        self.cached.insert(token.0, cached.clone());
        Authenticated { token, cached }
    }

    /// Caches that the account has accepted all documents that are required with this edition, in the state
    /// `authorization`.
    pub(in crate::ops) fn cache_acceptance(&self, account: &Authenticated, edition: u64, authorization: u64) {
        let cached = CachedToken::clone(&account.cached);
        if cached.authorization == authorization {
            self.cache(account.token, CachedToken { accepted_with: Some(edition), ..cached });
        }
    }

    fn used(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Authenticates an access token.
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
            // Not `<`: a wrong clock may have stored a later day.
            if used.day() != day {
                core.tokens.used().insert(hash.0);
            }
            let budget_keys = core.budgets.keys_of(&user_id);
            let cached = CachedToken { user_id, budget_keys, accepted_with: None, day, authorization };
            core.tokens.cache(hash, cached)
        }
    };
    // If the operator removes a homeserver from the allowlist, its users must lose access at once, not at their
    // next registration.
    if !core.config.homeservers.allow.is_empty() {
        require_allowed(core, account.user_id().server_name())?;
    }
    Ok(account)
}

/// Stores the day of last use of tokens, in bounded steps. `now` is the time that the caller has checked for a
/// clock jump. If a write fails, the next call stores the remaining uses.
pub async fn store_uses(core: &Core, now: Millis) -> Result<(), Failure> {
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
