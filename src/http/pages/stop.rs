//! The page behind the stop link of a mail: opting an address out of all messages, and in again (design, P20).
//!
//! Opening it changes nothing, because mail scanners open links. A mail program can opt out without the page (RFC
//! 8058). The page names no address, since mails are forwarded.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::json;

use super::{language, switch};
use crate::{
    domain::{refusal::Refusal, stop_link::StopToken},
    http::{State, body::Body, caller::Caller, error::ApiError},
    ops::{Failure, address::suppression},
};

/// What a button of the page, or a mail program, asks for.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Stop,
    Allow,
}

#[derive(Deserialize)]
struct Form {
    decision: Option<Decision>,
}

/// `GET /stop/{token}`: shows whether the address has opted out, and changes nothing.
pub async fn show(state: Data<State>, request: HttpRequest, token: Path<String>) -> HttpResponse {
    match suppression::read_stop_link(&state.core, &token) {
        Some(stop) => page(&state, &request, &token, stop),
        None => end(&state, &request, StatusCode::NOT_FOUND, "invalid"),
    }
}

/// `POST /stop/{token}`: opts out or in.
pub async fn decide(
    state: Data<State>,
    caller: Caller,
    request: HttpRequest,
    token: Path<String>,
    body: Body,
) -> HttpResponse {
    let Some(stop) = suppression::read_stop_link(&state.core, &token) else {
        return end(&state, &request, StatusCode::NOT_FOUND, "invalid");
    };
    let Some(decision) = read_decision(&body) else {
        return end(&state, &request, StatusCode::BAD_REQUEST, "invalid");
    };
    if let Err(refusal) = state.core.limits.submit_link(caller.network(), state.core.clock.now()) {
        return failed(&state, &request, refusal.into());
    }
    let decided = match decision {
        Decision::Stop => suppression::stop(&state.core, stop).await,
        Decision::Allow => suppression::allow(&state.core, stop).await,
    };
    match decided {
        Ok(()) => page(&state, &request, &token, stop),
        Err(failure) => failed(&state, &request, failure),
    }
}

/// The decision in a form of the page, or `List-Unsubscribe=One-Click` from a mail program. Those may send it as
/// `multipart/form-data`, where the name and the value are apart.
fn read_decision(body: &Body) -> Option<Decision> {
    let has = |word: &[u8]| body.bytes().windows(word.len()).any(|part| part == word);
    let form = body.json_or_form::<Form>().ok().and_then(|form| form.decision);
    form.or_else(|| (has(b"List-Unsubscribe") && has(b"One-Click")).then_some(Decision::Stop))
}

fn page(state: &State, request: &HttpRequest, text: &str, stop: StopToken) -> HttpResponse {
    match suppression::stopped_since(&state.core, stop) {
        Ok(since) => {
            let switch = switch(|language| format!("/stop/{text}?lang={language}"));
            let page = json!({ "token": text, "since": since.map(|since| since.0), "switch": switch });
            state.pages.show(StatusCode::OK, "stop.html", language(state, request), page)
        }
        Err(failure) => failed(state, request, failure),
    }
}

fn failed(state: &State, request: &HttpRequest, failure: Failure) -> HttpResponse {
    match ApiError::from(failure) {
        ApiError::Refused(Refusal::LimitExceeded { .. }) => {
            end(state, request, StatusCode::TOO_MANY_REQUESTS, "busy")
        }
        _ => end(state, request, StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    }
}

fn end(state: &State, request: &HttpRequest, status: StatusCode, outcome: &str) -> HttpResponse {
    let elsewhere = switch(|language| format!("/?lang={language}"));
    super::end(state, status, language(state, request), outcome, elsewhere)
}
