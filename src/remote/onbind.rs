//! Telling a homeserver that an invited address now leads to one of its users (Server-Server API,
//! "Third-party invites", `/3pid/onbind`).
//!
//! One invitation a request; when to try again is decided by whoever asks.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{
    fetch::{Request, Response},
    homeservers::RemoteHomeservers,
};
use crate::{domain::server_name::ServerName, ops::HomeserverError};

const PATH: &str = "/_matrix/federation/v1/3pid/onbind";
/// The answer is an empty object; an error is short.
const MAX_ANSWER: usize = 50 * 1024;
/// How long telling one may take, in both ways together. A homeserver answers only after it has asked the room's homeserver, which may be far away.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a homeserver made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBind {
    /// It has taken it.
    Taken,
    /// It has not, or did not answer, and may later.
    NotNow,
    /// It has not, and never will.
    Never,
}

impl RemoteHomeservers {
    /// Tells `server`.
    pub async fn on_bind(&self, server: &ServerName, body: &Value) -> OnBind {
        let begun = Instant::now();
        // The specification says PUT; Synapse has only ever had POST.
        match self.tell(server, Method::PUT, body, PATIENCE).await {
            Ok(answer) if knows_no_put(&answer) => {
                let rest = PATIENCE.saturating_sub(begun.elapsed());
                verdict(self.tell(server, Method::POST, body, rest).await)
            }
            other => verdict(other),
        }
    }

    async fn tell(
        &self,
        server: &ServerName,
        method: Method,
        body: &Value,
        patience: Duration,
    ) -> Result<Response, HomeserverError> {
        let request = Request { method, path: PATH, body: Some(body) };
        self.ask(&self.bound_at_once, server, request, MAX_ANSWER, patience).await
    }
}

fn knows_no_put(answer: &Response) -> bool {
    let errcode =
        || serde_json::from_slice::<Value>(&answer.body).ok()?.get("errcode")?.as_str().map(str::to_owned);
    match answer.status {
        StatusCode::METHOD_NOT_ALLOWED => true,
        StatusCode::NOT_FOUND => errcode().as_deref() == Some("M_UNRECOGNIZED"),
        _ => false,
    }
}

fn verdict(answer: Result<Response, HomeserverError>) -> OnBind {
    let Ok(answer) = answer else { return OnBind::NotNow };
    match answer.status {
        status if status.is_success() => OnBind::Taken,
        StatusCode::TOO_MANY_REQUESTS => OnBind::NotNow,
        status if status.is_client_error() => OnBind::Never,
        // Redirects are not followed: where a homeserver is, discovery says.
        _ => OnBind::NotNow,
    }
}
