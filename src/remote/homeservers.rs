//! What homeservers are asked: whose OpenID token is this, and which keys do you sign with
//! (specification, Server-Server API).
//!
//! The answers are checked for being well-formed and signed; what follows from them is decided in
//! `ops`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use reqwest::StatusCode;
use serde_json::{Map, Value};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    discovery::Discovery,
    fetch::{Fetch, FetchError, Request, Response},
};
use crate::{
    domain::{
        clock::Clock,
        ids::{OpenIdToken, UserId},
        server_name::ServerName,
        signing::{PublicKey, PublicKeys},
        time::Millis,
    },
    ops::{HomeserverError, Homeservers},
};

const MAX_USER_INFO: usize = 5 * 1024;
const MAX_KEYS: usize = 50 * 1024;
/// Keys are trusted for a week at most, whatever the server says (specification, "Publishing
/// Keys").
const KEYS_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
/// A key that is not among the remembered ones makes us ask again, but no sooner than this.
const KEYS_AGAIN: Duration = Duration::from_secs(60);
/// How many servers' keys are remembered; the one that expires first is forgotten for each beyond.
const REMEMBER_SERVERS: usize = 4096;
/// How many homeservers are asked the same question at the same time.
const AT_ONCE: usize = 512;

struct RememberedKeys {
    keys: Result<Arc<PublicKeys>, HomeserverError>,
    asked: Millis,
    until: Millis,
}

/// Homeservers on the network.
pub struct RemoteHomeservers {
    discovery: Discovery,
    fetch: Arc<Fetch>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    /// Apart, because asking for keys needs no account and registering must not wait for it.
    owners_at_once: Semaphore,
    keys_at_once: Semaphore,
    pub(super) bound_at_once: Semaphore,
    keys: Mutex<HashMap<ServerName, RememberedKeys>>,
}

impl RemoteHomeservers {
    /// `patience` is how long one question may take, discovery included.
    pub fn new(discovery: Discovery, fetch: Arc<Fetch>, clock: Arc<dyn Clock>, patience: Duration) -> Self {
        Self {
            discovery,
            fetch,
            clock,
            patience,
            owners_at_once: Semaphore::new(AT_ONCE),
            keys_at_once: Semaphore::new(AT_ONCE),
            bound_at_once: Semaphore::new(AT_ONCE),
            keys: Mutex::default(),
        }
    }

    /// Asks `server`, trying the places it may be at until one of them talks.
    pub(super) async fn ask(
        &self,
        at_once: &Semaphore,
        server: &ServerName,
        request: Request<'_>,
        limit: usize,
        patience: Duration,
    ) -> Result<Response, HomeserverError> {
        let ask = async {
            let _permit = at_once.acquire().await;
            let mut failure = FetchError::NoAddress;
            for target in self.discovery.targets(server).await {
                match self.fetch.send(&target, &request, limit).await {
                    Ok(response) => return Ok(response),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        };
        let answer = timeout(patience, ask).await;
        answer
            .map_err(|_| "it took too long".to_owned())
            .and_then(|answer| answer.map_err(|e| e.to_string()))
            .map_err(|reason| {
                tracing::warn!(%server, reason, "a homeserver could not be asked");
                HomeserverError::Unreachable
            })
    }

    async fn ask_token_owner(
        &self,
        server: &ServerName,
        token: &OpenIdToken,
    ) -> Result<UserId, HomeserverError> {
        let query = serde_urlencoded::to_string([("access_token", token.as_str())]);
        let query = query.map_err(|_| HomeserverError::Refused)?;
        let path = format!("/_matrix/federation/v1/openid/userinfo?{query}");
        let response =
            self.ask(&self.owners_at_once, server, Request::get(&path), MAX_USER_INFO, self.patience).await?;
        if response.status.is_client_error() {
            return Err(HomeserverError::Refused);
        }
        let info = json_object(&response).ok_or_else(|| nonsense(server, HomeserverError::Unreachable))?;
        info.get("sub").and_then(Value::as_str).and_then(UserId::parse).ok_or(HomeserverError::Refused)
    }

    /// The keys of `server`, remembered as long as they are good; a failure is remembered as well,
    /// shortly, so that whoever makes us ask cannot make us ask all the time.
    async fn ask_keys(&self, server: &ServerName, key_id: &str) -> Result<Arc<PublicKeys>, HomeserverError> {
        let now = self.clock.now();
        if let Some(known) = self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(server) {
            let asked_lately = now < known.asked.after(KEYS_AGAIN);
            let has_key = known.keys.as_ref().is_ok_and(|keys| keys.contains_key(key_id));
            if now < known.until && (has_key || asked_lately) {
                return known.keys.clone();
            }
        }
        let answer = self.fetch_keys(server, now).await;
        let (keys, until) = match answer {
            Ok((keys, until)) => (Ok(Arc::new(keys)), until),
            Err(error) => (Err(error), now.after(KEYS_AGAIN)),
        };
        let mut known = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBER_SERVERS && !known.contains_key(server) {
            let soonest = known.iter().min_by_key(|(_, keys)| keys.until).map(|(server, _)| server.clone());
            soonest.and_then(|server| known.remove(&server));
        }
        known.insert(server.clone(), RememberedKeys { keys: keys.clone(), asked: now, until });
        keys
    }

    async fn fetch_keys(
        &self,
        server: &ServerName,
        now: Millis,
    ) -> Result<(PublicKeys, Millis), HomeserverError> {
        let response = self
            .ask(&self.keys_at_once, server, Request::get("/_matrix/key/v2/server"), MAX_KEYS, self.patience)
            .await?;
        let document =
            json_object(&response).ok_or_else(|| nonsense(server, HomeserverError::Unreachable))?;
        read_keys(server, &document, now).ok_or_else(|| nonsense(server, HomeserverError::Refused))
    }
}

impl Homeservers for RemoteHomeservers {
    fn token_owner<'a>(
        &'a self,
        server: &'a ServerName,
        openid_token: &'a OpenIdToken,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>> {
        self.ask_token_owner(server, openid_token).boxed()
    }

    fn signing_keys<'a>(
        &'a self,
        server: &'a ServerName,
        key_id: &'a str,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>> {
        self.ask_keys(server, key_id).boxed()
    }
}

fn json_object(response: &Response) -> Option<Map<String, Value>> {
    if response.status != StatusCode::OK {
        return None;
    }
    serde_json::from_slice(&response.body).ok()
}

/// The keys in a key document, and until when they are good; `None` if the document is not
/// `server`'s, is signed by none of its keys, or is out of date. A key that did not sign the
/// document is left out.
fn read_keys(
    server: &ServerName,
    document: &Map<String, Value>,
    now: Millis,
) -> Option<(PublicKeys, Millis)> {
    if document.get("server_name")?.as_str()? != server.as_str() {
        return None;
    }
    let until = Millis(document.get("valid_until_ts")?.as_u64()?).min(now.after(KEYS_MOST));
    let signatures = document.get("signatures")?.get(server.as_str())?;
    let mut keys = PublicKeys::new();
    for (id, value) in document.get("verify_keys")?.as_object()? {
        // Other algorithms may come one day; they are no reason to refuse the rest.
        if !id.starts_with("ed25519:") {
            continue;
        }
        let key = value.get("key").and_then(Value::as_str).and_then(PublicKey::from_base64);
        let signature = signatures.get(id).and_then(Value::as_str);
        if let (Some(key), Some(signature)) = (key, signature)
            && key.verifies(document, signature)
        {
            keys.insert(id.clone(), key);
        }
    }
    (until > now && !keys.is_empty()).then_some((keys, until))
}

/// Tells the operator what the caller only hears as a refusal.
fn nonsense(server: &ServerName, error: HomeserverError) -> HomeserverError {
    tracing::warn!(%server, "a homeserver gave an answer that cannot be used");
    error
}
