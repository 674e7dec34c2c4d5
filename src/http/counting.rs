//! Counts every request at the public listeners, for the logs of callers and for the metrics.
//!
//! This runs for each request, so it must be cheap: it determines the caller's address, computes two hashes and
//! updates two rows that usually exist. The logs count a request on arrival, because the caller may disconnect before
//! the answer. The metrics count answers.

use std::{net::IpAddr, sync::Arc, time::Instant};

use actix_web::{
    Error,
    dev::{ServiceRequest, ServiceResponse},
    http::header::USER_AGENT,
    web::Data,
};

use super::{
    State,
    caller::{Caller, warn_of_silent_proxy},
    request_id::{RequestId, RequestIds},
};
use crate::{
    domain::{day::Day, request_kind::RequestKind},
    logs::{Counter, agent},
    metrics::WorkerRequests,
};

/// The counter of a worker thread.
#[derive(Clone)]
pub struct Counting {
    state: Data<State>,
    counter: Arc<Counter>,
    answers: Arc<WorkerRequests>,
    ids: Arc<RequestIds>,
}

/// A counted request that has no answer yet.
pub struct Arrived {
    counter: Arc<Counter>,
    answers: Arc<WorkerRequests>,
    day: Day,
    ip: IpAddr,
    kind: RequestKind,
    at: Instant,
    pub id: RequestId,
}

impl Counting {
    /// Makes one with a counter of its own.
    pub fn new(state: Data<State>) -> Self {
        let (counter, answers) = (state.core.logs.counter(), state.core.metrics.worker());
        Self { state, counter, answers, ids: Arc::default() }
    }

    /// Counts a request on arrival.
    pub fn arrived(&self, request: &ServiceRequest) -> Arrived {
        let core = &self.state.core;
        warn_of_silent_proxy(request.request(), &core.config);
        let ip = Caller::of(request.request(), &core.config).ip();
        let day = Day::of(core.clock.now());
        let program = request.headers().get(USER_AGENT).map(|value| value.as_bytes()).unwrap_or_default();
        let kind = kind(request.path());
        self.counter.arrived(day, ip, &agent(program), kind);
        #[expect(clippy::disallowed_methods, reason = "how long an answer takes is real time")]
        let at = Instant::now();
        let (counter, answers) = (self.counter.clone(), self.answers.clone());
        Arrived { counter, answers, day, ip, kind, at, id: self.ids.make() }
    }
}

impl Arrived {
    /// Counts the answer.
    pub fn answered<B>(&self, answer: &Result<ServiceResponse<B>, Error>) {
        let status = match answer {
            Ok(answer) => answer.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        self.answers.count(self.kind, status.as_u16(), self.at.elapsed());
        if status.is_client_error() {
            self.counter.refused(self.day, self.ip);
        }
    }
}

/// The kind of a request, by its path.
fn kind(path: &str) -> RequestKind {
    if let Some(path) = path.strip_prefix("/_matrix/identity") {
        let of_version = path.strip_prefix("/v2").or_else(|| path.strip_prefix("/api/v1"));
        return match of_version.unwrap_or(path) {
            "/lookup" => RequestKind::Lookup,
            "/hash_details" => RequestKind::HashDetails,
            "/account/register" => RequestKind::Register,
            "/account" | "/account/logout" | "/terms" => RequestKind::Account,
            "/3pid/bind" => RequestKind::Bind,
            "/3pid/unbind" => RequestKind::Unbind,
            "/3pid/getValidated3pid" => RequestKind::Validation,
            "/store-invite" | "/sign-ed25519" => RequestKind::Invite,
            "" | "/" | "/versions" => RequestKind::Status,
            path if path.starts_with("/validate/") => RequestKind::Validation,
            path if path.starts_with("/pubkey/") => RequestKind::Keys,
            _ => RequestKind::Other,
        };
    }
    if let Some(path) = path.strip_prefix("/_bindery/v1/") {
        return match path.split('/').next() {
            Some("account") => RequestKind::Account,
            Some("invitations") => RequestKind::Invite,
            _ => RequestKind::Other,
        };
    }
    match path.split('/').nth(1) {
        Some("" | "c" | "me" | "stop" | "privacy" | "assets" | ".well-known") => RequestKind::Page,
        _ => RequestKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_of_a_kind() {
        for (path, expected) in [
            ("/_matrix/identity/v2/lookup", RequestKind::Lookup),
            ("/_matrix/identity/v2/hash_details", RequestKind::HashDetails),
            ("/_matrix/identity/v2/account/register", RequestKind::Register),
            ("/_matrix/identity/v2/account/logout", RequestKind::Account),
            ("/_matrix/identity/v2/validate/email/requestToken", RequestKind::Validation),
            ("/_matrix/identity/api/v1/validate/msisdn/submitToken", RequestKind::Validation),
            ("/_matrix/identity/v2/3pid/bind", RequestKind::Bind),
            ("/_matrix/identity/v2/3pid/unbind", RequestKind::Unbind),
            ("/_matrix/identity/v2/store-invite", RequestKind::Invite),
            ("/_matrix/identity/api/v1/pubkey/ed25519:0", RequestKind::Keys),
            ("/_matrix/identity/v2", RequestKind::Status),
            ("/_matrix/identity/versions", RequestKind::Status),
            ("/_matrix/identity/v3/lookup", RequestKind::Other),
            ("/_bindery/v1/invitations/x", RequestKind::Invite),
            ("/_bindery/v1/account/export", RequestKind::Account),
            ("/_bindery/v1/accounts", RequestKind::Other),
            ("/", RequestKind::Page),
            ("/c/x", RequestKind::Page),
            ("/stop/x", RequestKind::Page),
            ("/assets/style.css", RequestKind::Page),
            ("/wp-login.php", RequestKind::Other),
            ("", RequestKind::Other),
        ] {
            assert_eq!(kind(path), expected, "{path}");
        }
    }
}
