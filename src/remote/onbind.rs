//! `/3pid/onbind`: tells a homeserver that an invited address is now bound to one of its users (Server-Server
//! API, "Third-party invites").
//!
//! One invitation a request. The caller decides when to retry.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    fetch::{Request, Response},
    homeservers::RemoteHomeservers,
};
use crate::{domain::server_name::ServerName, ops::HomeserverError};

const PATH: &str = "/_matrix/federation/v1/3pid/onbind";
/// The answer is an empty object; an error is short.
const MAX_ANSWER_BYTES: usize = 50 * 1024;
/// The timeout of PUT and POST together. It is long because a homeserver answers only after it has asked the
/// room's homeserver.
pub const ONBIND_TIMEOUT: Duration = Duration::from_secs(60);
/// As [`ONBIND_TIMEOUT`], for a host that has failed before: many that never answer must not hold all places.
pub const ONBIND_RETRY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long to wait between two tries while no place is free.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// What became of a request to `/3pid/onbind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBind {
    /// The homeserver accepted it.
    Delivered,
    /// It failed, and a retry may succeed.
    Failed,
    /// The homeserver refused it, and would refuse a retry.
    Refused,
    /// The homeserver was not asked, because strangers took all places at its address. This is no failure of it.
    NotAsked,
}

impl RemoteHomeservers {
    /// Tells `server`, with `body` as the specification describes it, within `timeout`. Before that, it waits for a place
    /// for as long.
    pub async fn on_bind(&self, server: &ServerName, body: &Value, timeout: Duration) -> OnBind {
        #[expect(clippy::disallowed_methods, reason = "a timeout is about real time")]
        let begun = Instant::now();
        loop {
            match self.try_on_bind(server, body, timeout).await {
                OnBind::NotAsked if begun.elapsed() < timeout => sleep(BUSY_PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    async fn try_on_bind(&self, server: &ServerName, body: &Value, timeout: Duration) -> OnBind {
        #[expect(clippy::disallowed_methods, reason = "a timeout is about real time")]
        let begun = Instant::now();
        // The specification says PUT; Synapse has only ever had POST.
        match self.send_on_bind(server, Method::PUT, body, timeout).await {
            Ok(answer) if rejects_put(&answer) => {
                let left = timeout.saturating_sub(begun.elapsed());
                outcome(self.send_on_bind(server, Method::POST, body, left).await)
            }
            other => outcome(other),
        }
    }

    async fn send_on_bind(
        &self,
        server: &ServerName,
        method: Method,
        body: &Value,
        timeout: Duration,
    ) -> Result<Response, HomeserverError> {
        let request = Request { method, path: PATH, body: Some(body) };
        self.send(server, request, MAX_ANSWER_BYTES, timeout).await
    }
}

fn rejects_put(answer: &Response) -> bool {
    let errcode =
        || serde_json::from_slice::<Value>(&answer.body).ok()?.get("errcode")?.as_str().map(str::to_owned);
    match answer.status {
        StatusCode::METHOD_NOT_ALLOWED => true,
        StatusCode::NOT_FOUND => errcode().as_deref() == Some("M_UNRECOGNIZED"),
        _ => false,
    }
}

fn outcome(answer: Result<Response, HomeserverError>) -> OnBind {
    let answer = match answer {
        Ok(answer) => answer,
        Err(HomeserverError::Busy) => return OnBind::NotAsked,
        Err(HomeserverError::Refused | HomeserverError::Unreachable) => return OnBind::Failed,
    };
    match answer.status {
        status if status.is_success() => OnBind::Delivered,
        StatusCode::TOO_MANY_REQUESTS => OnBind::Failed,
        status if status.is_client_error() => OnBind::Refused,
        // A redirect is not followed: only discovery says where a homeserver is.
        _ => OnBind::Failed,
    }
}
