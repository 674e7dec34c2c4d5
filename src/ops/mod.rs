//! What the server does: one function for each operation, which owns its transaction.
//!
//! A function takes domain values and returns domain values or a [`Failure`]. It knows neither HTTP nor
//! templates. It calls homeservers through the trait [`Homeservers`].

pub mod account;
pub mod address;
pub mod backup;
#[cfg(feature = "import")]
pub mod import;
pub mod invitation;
pub mod keys;
pub mod limits;
pub mod lookup;
pub mod monitoring;
pub mod outbox;
mod pause;
pub mod person;
pub mod privacy_notice;
pub mod restore;
pub mod retention;
pub mod x_matrix;

use std::{io, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use futures_util::future::BoxFuture;

use self::address::session_locks::SessionLocks;
use crate::{
    config::{Config, Operator},
    domain::{
        clock::Clock,
        edition::Edition,
        ids::{OpenIdToken, UserId},
        network::Network,
        refusal::Refusal,
        secret::Key32,
        server_name::ServerName,
        signing::{KeyPair, PublicKeys},
        terms::Required,
        time::Millis,
    },
    logs::{self, LogKind, Logs, OnLost},
    metrics::{Metrics, RequestLimit},
    store::{Genesis, Store, StoreError, Writes},
};

/// Calls to other homeservers. `remote` implements it.
pub trait Homeservers: Send + Sync {
    /// Asks `server` which user an OpenID token belongs to (Server-Server API, `/openid/userinfo`). The answer
    /// is only a claim: the operation checks that the user is on that server.
    fn token_owner<'a>(
        &'a self,
        server: &'a ServerName,
        openid_token: &'a OpenIdToken,
        caller: Network,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>>;

    /// The current signing keys of `server`. Fetches them again if `key_id` is not among the known keys.
    fn signing_keys<'a>(
        &'a self,
        server: &'a ServerName,
        key_id: &'a str,
        caller: Network,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>>;
}

/// When a caller may retry a request for which there was no place.
pub const BUSY_RETRY: Duration = Duration::from_secs(2);

/// Why a homeserver gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeserverError {
    /// It refused the request.
    #[error("the homeserver refused the request")]
    Refused,
    /// It could not be reached, its answer came too late or was too large, or the answer was malformed.
    #[error("the homeserver gave no usable answer")]
    Unreachable,
    /// It was not asked: too many requests of this caller or to this homeserver run already.
    #[error("too many requests run already")]
    Busy,
}

/// The refusal of a request for which a homeserver would have to be asked, but was not.
fn busy(core: &Core) -> Refusal {
    core.metrics.count_limited(RequestLimit::Homeservers);
    Refusal::LimitExceeded { retry_after: BUSY_RETRY }
}

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// It was refused. The caller is told why.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The database failed. Every operation can fail with this, so functions document only their refusals. The
    /// caller gets a general error; the log has the cause.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A log file cannot be read or removed.
    #[error("a log file cannot be read or removed: {0}")]
    Logs(Arc<io::Error>),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Logs(Arc::new(error))
    }
}

/// What a reload replaces, as a whole.
pub struct InForce {
    /// Who is responsible for the server.
    pub operator: Operator,
    /// The editions of the privacy notice. The last one is in force.
    pub editions: Vec<Edition>,
    /// The documents that an account must accept.
    pub terms: Vec<Required>,
}

impl InForce {
    fn by(config: &Config, editions: Vec<Edition>) -> Self {
        let terms = privacy_notice::Planned::by(config).required(&editions);
        Self { operator: config.operator.clone(), editions, terms }
    }

    /// The number of the latest edition. The required documents change only with it.
    fn edition(&self) -> u64 {
        self.editions.last().map_or(0, |latest| latest.number)
    }
}

/// The parts that operations share.
pub struct Core {
    /// The configuration at the start. What a reload changes is not read here ([`crate::config::RELOADABLE`]).
    pub config: Arc<Config>,
    /// The database.
    pub store: Store,
    /// The logs of lookups and callers.
    pub logs: Arc<Logs>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    in_force: ArcSwap<InForce>,
    homeservers: Arc<dyn Homeservers>,
    names: Vec<String>,
    session_key: Key32,
    signing_keys: Vec<KeyPair>,
    sending: SessionLocks,
    submitting: SessionLocks,
    codes: address::codes::Codes,
    /// The rate limits.
    pub limits: limits::Limits,
    /// The lookup budgets.
    pub budgets: lookup::budget::Budgets,
    /// Held during a pepper rotation, so that only one runs at a time.
    rotating: tokio::sync::Mutex<()>,
    /// The backup that is being made.
    pub backups: backup::Backups,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Halts retention while the clock is in doubt.
    pub retention: retention::Switch,
    tokens: account::tokens::Tokens,
    exports: person::export::Exports,
    /// Counts how many addresses are looked up in a day.
    lookups_today: lookup::alarm::Today,
    /// Requests for the link to a person's own page.
    pub visits: person::own_page::LinkRequests,
    /// Watches the outbox and its task.
    pub monitor: monitoring::Monitor,
}

impl Core {
    /// Assembles the parts. Reads the keys, the editions of the notice and the lookup budgets from the
    /// database.
    pub async fn open(
        config: Arc<Config>,
        store: Store,
        clock: Arc<dyn Clock>,
        homeservers: Arc<dyn Homeservers>,
    ) -> Result<Self, StoreError> {
        let session_key = store.read().session_key()?;
        let signing_keys = store.read().signing_keys()?;
        let signing_keys = signing_keys.iter().map(|(id, seed)| KeyPair::new(id, seed)).collect();
        let metrics = Arc::new(Metrics::new(clock.clone(), store.commits()));
        for log in LogKind::ALL {
            metrics.count_lost_log_rows(log.as_str(), 0);
        }
        let budgets =
            lookup::budget::Budgets::load(&config.lookup, &session_key, &store, metrics.clone()).await?;
        let editions = store.read().editions()?;
        let in_force = ArcSwap::from_pointee(InForce::by(&config, editions));
        let on_lost: OnLost = {
            let metrics = metrics.clone();
            Box::new(move |log, rows| metrics.count_lost_log_rows(log.as_str(), rows))
        };
        let folder = logs::folder(&config.data_dir);
        let logs =
            Arc::new(Logs::new(folder, config.privacy.clone(), clock.clone(), session_key.clone(), on_lost));
        let limits = limits::Limits::new(&config, metrics.clone());
        let names = std::iter::once(&config.server_name).chain(&config.aliases).cloned().collect();
        Ok(Self {
            config,
            store,
            logs,
            clock,
            in_force,
            homeservers,
            names,
            session_key,
            signing_keys,
            sending: SessionLocks::default(),
            submitting: SessionLocks::default(),
            codes: address::codes::Codes::default(),
            limits,
            budgets,
            rotating: tokio::sync::Mutex::default(),
            backups: backup::Backups::default(),
            metrics,
            retention: retention::Switch::default(),
            tokens: account::tokens::Tokens::default(),
            exports: person::export::Exports::default(),
            lookups_today: lookup::alarm::Today::default(),
            visits: person::own_page::LinkRequests::default(),
            monitor: monitoring::Monitor::default(),
        })
    }
}

impl Core {
    /// Runs `work` in a write transaction, see [`Store::write`]. `work` must refuse before it changes anything.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.store.try_write(work).await
    }

    /// What is in force now. A request that needs it twice keeps it, because a reload may come in between.
    pub fn in_force(&self) -> Guard<Arc<InForce>> {
        self.in_force.load()
    }

    /// Waits until the store accepts no more writes, see [`Store::failed`].
    pub async fn store_failed(&self) {
        self.store.failed().await;
    }

    /// Waits until the writer takes an empty job. `false` if it has stopped.
    pub async fn check_writer(&self) -> bool {
        self.store.check_writer().await
    }

    /// The key for keyed hashes: of session tokens, and of values that are recognised but not stored.
    pub fn session_key(&self) -> &Key32 {
        &self.session_key
    }
}

/// The keys and the pepper of a new database, from the operating system's generator.
///
/// # Panics
/// If the operating system has no random numbers. No key would be secret then.
pub fn genesis(now: Millis) -> Genesis {
    Genesis {
        signing_seed: Key32::new(random()),
        pepper: lookup::pepper::new(),
        session_key: Key32::new(random()),
        now,
    }
}

/// Random bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}
