//! What the server does: one function for each thing, and each owns its transaction.
//!
//! A function here takes domain values and gives back domain values or a [`Failure`]. It knows
//! neither HTTP nor templates; what it needs from outside, the time and the homeservers, are the
//! two traits below.

pub mod accounts;
pub mod associations;
pub mod buckets;
pub mod budgets;
mod codes;
pub mod erasure;
pub mod export;
pub mod holdings;
pub mod invitations;
pub mod keys;
pub mod lookup;
pub mod mailed_link;
pub mod notices;
pub mod outbox;
pub mod owner_notices;
pub mod peppers;
mod purge;
mod rest;
pub mod retention;
mod sending;
pub mod suppressions;
pub mod terms;
pub mod tokens;
pub mod validation;
pub mod visits;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::{
    config::Config,
    domain::{
        edition::Edition,
        ids::{OpenIdToken, UserId},
        refusal::Refusal,
        secret::Key32,
        server_name::ServerName,
        signing::{KeyPair, PublicKeys},
        terms::Required,
        time::Millis,
    },
    metrics::Metrics,
    store::{Genesis, Store, StoreError},
};

/// Tells the time. Two exist: the system's, and one that tests move.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Millis;
}

/// What other people's homeservers say.
pub trait Homeservers: Send + Sync {
    /// Asks `server` whose OpenID token this is (Server-Server API, `/openid/userinfo`). The
    /// answer is what the server claims; whether it may claim that is checked here.
    fn token_owner<'a>(
        &'a self,
        server: &'a ServerName,
        openid_token: &'a OpenIdToken,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>>;

    /// The keys with which `server` signs now, asking again if `key_id` is not among the known.
    fn signing_keys<'a>(
        &'a self,
        server: &'a ServerName,
        key_id: &'a str,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>>;
}

/// Why a homeserver gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeserverError {
    /// It answered, and the answer is no.
    #[error("the homeserver said no")]
    Refused,
    /// It could not be reached, answered too late, too much, or nonsense.
    #[error("the homeserver gave no usable answer")]
    Unreachable,
}

/// Why an operation did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// It was refused; the caller hears why.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The database failed; the caller hears that something is wrong and the log says what.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What every operation works on.
pub struct Core {
    /// The configuration.
    pub config: Arc<Config>,
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The editions of the privacy notice, the one in force last.
    pub editions: Vec<Edition>,
    /// What has to be accepted.
    pub terms: Vec<Required>,
    homeservers: Arc<dyn Homeservers>,
    names: Vec<String>,
    session_key: Key32,
    signing_keys: Vec<KeyPair>,
    sending: sending::Sending,
    codes: codes::Codes,
    /// How much everybody may look up.
    pub budgets: budgets::Budgets,
    /// Held while the pepper is replaced, so that only one at a time does that.
    rotating: tokio::sync::Mutex<()>,
    /// What monitoring may count.
    pub metrics: Metrics,
    /// Whether what has reached its age is deleted.
    pub retention: retention::Switch,
    tokens: tokens::Tokens,
    /// Rings when something new lies in the outbox.
    pub outbox_bell: Notify,
    /// Who has asked for the link to their own page.
    pub visits: visits::Queue,
}

impl Core {
    /// Brings the parts together, and reads the keys and the editions of the notice from the database.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(
        config: Arc<Config>,
        store: Store,
        clock: Arc<dyn Clock>,
        homeservers: Arc<dyn Homeservers>,
    ) -> Result<Self, StoreError> {
        let session_key = store.read().session_key()?;
        let signing_keys = store.read().signing_keys()?;
        let signing_keys = signing_keys.iter().map(|(id, seed)| KeyPair::new(id, seed)).collect();
        let budgets = budgets::Budgets::load(&config.lookup, &session_key, &store)?;
        let editions = store.read().editions()?;
        let terms = notices::Planned::by(&config).required(&editions);
        let names = std::iter::once(&config.server_name).chain(&config.aliases).cloned().collect();
        Ok(Self {
            config,
            store,
            clock,
            editions,
            terms,
            homeservers,
            names,
            session_key,
            signing_keys,
            sending: sending::Sending::default(),
            codes: codes::Codes::default(),
            budgets,
            rotating: tokio::sync::Mutex::default(),
            metrics: Metrics::default(),
            retention: retention::Switch::default(),
            tokens: tokens::Tokens::default(),
            outbox_bell: Notify::new(),
            visits: visits::Queue::default(),
        })
    }
}

impl Core {
    /// The key under which this server hashes what it must recognise and may not store.
    pub fn session_key(&self) -> &Key32 {
        &self.session_key
    }
}

/// What a new database starts with: keys and a pepper from the operating system's generator.
///
/// # Panics
/// If the operating system has no random numbers, since nothing can be safe then.
pub fn genesis(now: Millis) -> Genesis {
    Genesis {
        signing_seed: Key32::new(random()),
        pepper: peppers::new(),
        session_key: Key32::new(random()),
        now,
    }
}

/// Bytes from the operating system's generator.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}
