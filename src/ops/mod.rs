//! What the server does: one function for each thing, and each owns its transaction.
//!
//! A function here takes domain values and gives back domain values or a [`Failure`]. It knows
//! neither HTTP nor templates; what it needs from homeservers is the trait below.

pub mod account;
pub mod address;
pub mod invitation;
pub mod keys;
pub mod limits;
pub mod lookup;
pub mod outbox;
mod pause;
pub mod person;
pub mod privacy_notice;
pub mod retention;
pub mod x_matrix;

use std::{io, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    config::Config,
    domain::{
        clock::Clock,
        edition::Edition,
        ids::{OpenIdToken, UserId},
        refusal::Refusal,
        secret::Key32,
        server_name::ServerName,
        signing::{KeyPair, PublicKeys},
        terms::Required,
        time::Millis,
    },
    logs::{self, Logs, OnLost},
    metrics::Metrics,
    store::{Genesis, Store, StoreError, Writes},
};

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
    /// A file of the logs cannot be read or removed.
    #[error("the logs cannot be used: {0}")]
    Logs(Arc<io::Error>),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Logs(Arc::new(error))
    }
}

/// What every operation works on.
pub struct Core {
    /// The configuration.
    pub config: Arc<Config>,
    /// The database.
    pub store: Store,
    /// The logs of lookups and callers.
    pub logs: Arc<Logs>,
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
    sending: address::sending::Sending,
    codes: address::codes::Codes,
    /// How often who may do what.
    pub limits: limits::Limits,
    /// How much everybody may look up.
    pub budgets: lookup::budget::Budgets,
    /// Held while the pepper is replaced, so that only one at a time does that.
    rotating: tokio::sync::Mutex<()>,
    /// What monitoring may count.
    pub metrics: Arc<Metrics>,
    /// Whether what has reached its age is deleted.
    pub retention: retention::Switch,
    tokens: account::tokens::Tokens,
    /// Who has asked for the link to their own page.
    pub visits: person::own_page::Queue,
}

impl Core {
    /// Brings the parts together, and reads the keys, the editions of the notice and the lookup budgets from the
    /// database.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn open(
        config: Arc<Config>,
        store: Store,
        clock: Arc<dyn Clock>,
        homeservers: Arc<dyn Homeservers>,
    ) -> Result<Self, StoreError> {
        let session_key = store.read().session_key()?;
        let signing_keys = store.read().signing_keys()?;
        let signing_keys = signing_keys.iter().map(|(id, seed)| KeyPair::new(id, seed)).collect();
        let budgets = lookup::budget::Budgets::load(&config.lookup, &session_key, &store).await?;
        let editions = store.read().editions()?;
        let terms = privacy_notice::Planned::by(&config).required(&editions);
        let metrics = Arc::new(Metrics::default());
        let on_lost: OnLost = {
            let metrics = metrics.clone();
            Box::new(move |log, rows| metrics.count_lost_log_rows(log.as_str(), rows))
        };
        let folder = logs::folder(&config.data_dir);
        let logs =
            Arc::new(Logs::new(folder, config.privacy.clone(), clock.clone(), session_key.clone(), on_lost));
        let limits = limits::Limits::new(config.limits.clone());
        let names = std::iter::once(&config.server_name).chain(&config.aliases).cloned().collect();
        Ok(Self {
            config,
            store,
            logs,
            clock,
            editions,
            terms,
            homeservers,
            names,
            session_key,
            signing_keys,
            sending: address::sending::Sending::default(),
            codes: address::codes::Codes::default(),
            limits,
            budgets,
            rotating: tokio::sync::Mutex::default(),
            metrics,
            retention: retention::Switch::default(),
            tokens: account::tokens::Tokens::default(),
            visits: person::own_page::Queue::default(),
        })
    }
}

impl Core {
    /// Runs `work` in a write transaction; see [`Store::write`]. A refusal must come before the first change.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writes<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.store.try_write(work).await
    }

    /// Waits until nothing can be written any more; see [`Store::failed`].
    pub async fn store_failed(&self) {
        self.store.failed().await;
    }

    /// Waits for the writer to take an empty job; `false` if it has stopped.
    pub async fn check_writer(&self) -> bool {
        self.store.check_writer().await
    }

    /// How many steps of long work the writer has made, such as rows of a rewrite.
    pub fn writer_steps(&self) -> u64 {
        self.store.progress().steps()
    }

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
        pepper: lookup::pepper::new(),
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
