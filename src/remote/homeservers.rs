//! Requests to homeservers: the owner of an OpenID token, and the server's signing keys (specification,
//! Server-Server API).
//!
//! An answer is checked here for its form and its signature. `ops` decides what follows from it.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::StatusCode;
use serde_json::{Map, Value};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    cache::{AnswerCache, Cached},
    discovery::Discovery,
    fetch::{Fetch, FetchError, Request, Response},
    key_fetches::KeyFetches,
    places::Places,
    standing::{ProvenNames, Standing},
};
use crate::{
    domain::{
        backoff::Backoff,
        clock::Clock,
        ids::{OpenIdToken, UserId},
        network::Network,
        server_name::{Host, ServerName},
        signing::{PublicKey, PublicKeys, SignedText},
        time::Millis,
    },
    metrics::{HomeserverOutcome, Metrics},
    ops::{HomeserverError, Homeservers},
};

const MAX_USER_INFO_BYTES: usize = 5 * 1024;
const MAX_KEYS_BYTES: usize = 50 * 1024;
/// The longest time that keys are trusted, whatever the server says (specification, "Publishing Keys").
const MAX_KEYS_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest time between two requests for the keys of one server name: after a failure, and when a request names a
/// key that is not cached. [`KeyFetches`] bounds those for the names of one domain.
const KEYS_INTERVAL: Duration = Duration::from_secs(60);
/// The most keys in a document. Each costs a verification, and anyone can name a server of their own.
pub const MAX_KEYS: usize = 16;
/// A key with a longer identifier is left out. So an entry of the cache takes at most about 5 KiB, and all take 5 MiB.
const MAX_KEY_ID_BYTES: usize = 64;
const MAX_CACHED_SERVERS: usize = 1024;

/// Homeservers on the network.
pub struct RemoteHomeservers {
    discovery: Discovery,
    fetch: Arc<Fetch>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    /// Places for each kind of request: a stranger without an account can cause requests for keys, and they must
    /// take none from registration. The outbox bounds the calls to `/3pid/onbind`.
    owner_requests: Places,
    key_requests: Places,
    /// The homeservers that the operator names, exactly so. Nobody else chose these names, so they need no proof.
    named: HashSet<String>,
    proven: ProvenNames,
    key_fetches: KeyFetches,
    keys: AnswerCache<Arc<PublicKeys>, HomeserverError>,
    /// Key documents are verified one at a time: a stranger can cause many, and each takes milliseconds.
    verifying: Semaphore,
    metrics: OnceLock<Arc<Metrics>>,
}

impl RemoteHomeservers {
    /// `timeout` bounds one request, discovery included. At most `max_requests` run at the same time. `named` are the
    /// homeservers that the operator names.
    pub fn new(
        discovery: Discovery,
        fetch: Arc<Fetch>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
        max_requests: usize,
        named: HashSet<String>,
    ) -> Self {
        Self {
            discovery,
            fetch,
            clock,
            timeout,
            owner_requests: Places::new(max_requests / 2),
            key_requests: Places::new(max_requests / 4),
            named,
            proven: ProvenNames::default(),
            key_fetches: KeyFetches::default(),
            keys: AnswerCache::new(MAX_CACHED_SERVERS, Backoff { first: KEYS_INTERVAL, cap: KEYS_INTERVAL }),
            verifying: Semaphore::new(1),
            metrics: OnceLock::new(),
        }
    }

    /// The standing of a server name.
    fn standing(&self, server: &ServerName) -> Standing {
        if self.named.contains(server.as_str()) {
            return Standing::Proven;
        }
        self.proven.standing(server, self.clock.now())
    }

    /// Counts the requests there from now on. The operations own the metrics, and are made after this.
    pub fn count_in(&self, metrics: Arc<Metrics>) {
        let _ = self.metrics.set(metrics);
    }

    fn count(&self, outcome: HomeserverOutcome) {
        if let Some(metrics) = self.metrics.get() {
            metrics.count_homeserver_request(outcome);
        }
    }

    fn busy(&self) -> HomeserverError {
        self.count(HomeserverOutcome::Busy);
        HomeserverError::Busy
    }

    /// Sends `request` to each place of `server` in turn, until one answers. `Busy` if one of them could not be asked and
    /// none answered.
    pub(super) async fn send(
        &self,
        server: &ServerName,
        request: Request<'_>,
        max_bytes: usize,
        max_time: Duration,
    ) -> Result<Response, HomeserverError> {
        let standing = self.standing(server);
        let send = async {
            let mut failure = FetchError::NoAddress;
            for target in self.discovery.targets(server, standing).await? {
                match self.fetch.send(&target, standing, &request, max_bytes).await {
                    Ok(response) => return Ok(response),
                    Err(_) if matches!(failure, FetchError::Busy) => {}
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        };
        let reason = match timeout(max_time, send).await {
            Ok(Ok(response)) => {
                self.count(HomeserverOutcome::Answered);
                return Ok(response);
            }
            Ok(Err(FetchError::Busy)) => return Err(self.busy()),
            Ok(Err(error)) => {
                self.count(HomeserverOutcome::Unreachable);
                error.to_string()
            }
            Err(_) => {
                self.count(HomeserverOutcome::Timeout);
                "timeout".to_owned()
            }
        };
        log_failure(server, &reason);
        Err(HomeserverError::Unreachable)
    }

    /// As [`RemoteHomeservers::send`], for requests whose answer needs nobody but the homeserver itself. Without one, its
    /// name may lose its standing.
    async fn ask(
        &self,
        server: &ServerName,
        request: Request<'_>,
        max_bytes: usize,
    ) -> Result<Response, HomeserverError> {
        let answer = self.send(server, request, max_bytes, self.timeout).await;
        if matches!(answer, Err(HomeserverError::Unreachable)) {
            self.proven.count_unanswered(server, self.clock.now());
        }
        answer
    }

    async fn fetch_token_owner(
        &self,
        server: &ServerName,
        token: &OpenIdToken,
        caller: Network,
    ) -> Result<UserId, HomeserverError> {
        let place = self.owner_requests.take(server, self.standing(server), caller);
        let _place = place.map_err(|_| self.busy())?;
        let query = serde_urlencoded::to_string([("access_token", token.as_str())]);
        let query = query.map_err(|_| HomeserverError::Refused)?;
        let path = format!("/_matrix/federation/v1/openid/userinfo?{query}");
        let request = Request::get(&path);
        let response = self.ask(server, request, MAX_USER_INFO_BYTES).await?;
        if response.status.is_client_error() {
            return Err(HomeserverError::Refused);
        }
        let info = json_object(&response).ok_or_else(|| log_invalid(server, HomeserverError::Unreachable))?;
        let owner = info.get("sub").and_then(Value::as_str).and_then(UserId::parse);
        let owner = owner.ok_or(HomeserverError::Refused)?;
        if owner.is_on(server) {
            self.proven.prove(server, self.clock.now());
        }
        Ok(owner)
    }

    /// The keys of `server`, from the cache if `key_id` is among them or they are fresh enough.
    async fn cached_keys(
        &self,
        server: &ServerName,
        key_id: &str,
        caller: Network,
    ) -> Result<Arc<PublicKeys>, HomeserverError> {
        let now = self.clock.now();
        let cached = self.keys.get(server.as_str(), now);
        if let Some(cached) = &cached {
            let is_recent = now < cached.asked.after(KEYS_INTERVAL);
            let has_key = cached.answer.as_ref().is_ok_and(|keys| keys.contains_key(key_id));
            if has_key || is_recent {
                return cached.answer.clone();
            }
        }
        let standing = self.standing(server);
        let _place = self.key_requests.take(server, standing, caller).map_err(|_| self.busy())?;
        if standing == Standing::Unproven {
            self.key_fetches.count(server, caller, now).map_err(|_| self.busy())?;
        }
        let fetched = self.fetch_keys(server, now).await.map(|(keys, expires)| (Arc::new(keys), expires));
        match (fetched, cached) {
            // It was not asked, so there is nothing to cache.
            (Err(HomeserverError::Busy), _) => Err(HomeserverError::Busy),
            // Anyone can name an unknown key. A failure to fetch it must not drop the good ones.
            (Err(error), Some(Cached { answer: Ok(keys), expires, asked, .. })) => {
                // Another request may have fetched newer ones meanwhile.
                if self.keys.get(server.as_str(), now).is_some_and(|latest| latest.asked == asked) {
                    let _ = self.keys.insert(server.as_str(), now, Ok((keys, expires)));
                }
                Err(error)
            }
            (fetched, _) => self.keys.insert(server.as_str(), now, fetched),
        }
    }

    async fn fetch_keys(
        &self,
        server: &ServerName,
        now: Millis,
    ) -> Result<(PublicKeys, Millis), HomeserverError> {
        let request = Request::get("/_matrix/key/v2/server");
        let response = self.ask(server, request, MAX_KEYS_BYTES).await?;
        let name = server.clone();
        let read = move || {
            let document = json_object(&response).ok_or(HomeserverError::Unreachable)?;
            read_keys(&name, &document, now).ok_or(HomeserverError::Refused)
        };
        let _turn = self.verifying.acquire().await;
        let keys = spawn_blocking(read).await.unwrap_or(Err(HomeserverError::Unreachable));
        keys.inspect(|_| self.proven.prove(server, now)).map_err(|error| log_invalid(server, error))
    }
}

impl Homeservers for RemoteHomeservers {
    fn token_owner<'a>(
        &'a self,
        server: &'a ServerName,
        openid_token: &'a OpenIdToken,
        caller: Network,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>> {
        self.fetch_token_owner(server, openid_token, caller).boxed()
    }

    fn signing_keys<'a>(
        &'a self,
        server: &'a ServerName,
        key_id: &'a str,
        caller: Network,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>> {
        self.cached_keys(server, key_id, caller).boxed()
    }
}

fn json_object(response: &Response) -> Option<Map<String, Value>> {
    if response.status != StatusCode::OK {
        return None;
    }
    serde_json::from_slice(&response.body).ok()
}

/// The keys in a key document, and when they expire; `None` if the document is of another server, no key of
/// its own signed it, it has more than [`MAX_KEYS`], or it has expired. A key that did not sign the document is left out.
pub fn read_keys(
    server: &ServerName,
    document: &Map<String, Value>,
    now: Millis,
) -> Option<(PublicKeys, Millis)> {
    if document.get("server_name")?.as_str()? != server.as_str() {
        return None;
    }
    let until = Millis(document.get("valid_until_ts")?.as_u64()?).min(now.after(MAX_KEYS_LIFETIME));
    let signatures = document.get("signatures")?.get(server.as_str())?;
    let mut keys = PublicKeys::new();
    let verify_keys = document.get("verify_keys")?.as_object()?;
    if verify_keys.len() > MAX_KEYS {
        return None;
    }
    let signed_text = SignedText::of(document).ok()?;
    for (id, value) in verify_keys {
        // A key of a future algorithm must not make the others unusable.
        if !id.starts_with("ed25519:") || id.len() > MAX_KEY_ID_BYTES {
            continue;
        }
        let key = value.get("key").and_then(Value::as_str).and_then(PublicKey::from_base64);
        let signature = signatures.get(id).and_then(Value::as_str);
        if let (Some(key), Some(signature)) = (key, signature)
            && signed_text.is_signed_by(&key, signature)
        {
            keys.insert(id.clone(), key);
        }
    }
    (until > now && !keys.is_empty()).then_some((keys, until))
}

fn log_invalid(server: &ServerName, error: HomeserverError) -> HomeserverError {
    log_failure(server, "the answer is invalid");
    error
}

/// Logs the reason, which the caller is not told. An IP address may lead to a person, so no log names it.
fn log_failure(server: &ServerName, reason: &str) {
    let (name, reason) = match server.host() {
        Host::Dns(_) => (server.as_str(), reason.to_owned()),
        Host::Ip(address) => ("an IP address", reason.replace(&address.to_string(), "its address")),
    };
    tracing::warn!(server = name, reason, "a request to a homeserver failed");
}
