//! Asking for the link to one's own page.
//!
//! The answer is the same, and as quick, whether or not the address is known: the handler answers before Bindery
//! reads anything (`ops::person::own_page::LinkRequests`).

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use serde::Deserialize;
use serde_json::json;

use super::{empty_form, end, failed, form};
use crate::{
    domain::{
        phone::PhoneNumber,
        threepid::{Address, MAX_EMAIL_CHARS},
    },
    http::{State, body::Body, caller::Caller, pages::language},
    metrics::VisitOutcome,
    ops::person::own_page::{LinkRequest, Recipient},
};

/// `GET /me`
pub async fn ask(state: Data<State>, request: HttpRequest) -> HttpResponse {
    form(&state, &request, StatusCode::OK, None)
}

#[derive(Deserialize)]
struct Typed {
    address: Option<String>,
}

/// `POST /me`
pub async fn send(state: Data<State>, caller: Caller, request: HttpRequest, body: Body) -> HttpResponse {
    let now = state.core.clock.now();
    if let Err(refusal) = state.core.limits.visit(caller.network(), now) {
        return failed(&state, &request, &refusal.into());
    }
    let typed = body.json_or_form::<Typed>().ok().and_then(|typed| typed.address).unwrap_or_default();
    let typed = typed.trim();
    if !is_plausible(typed) {
        let mut page = empty_form(None);
        (page["problem"], page["typed"]) = (json!("unreadable"), json!(typed));
        return state.pages.show(StatusCode::BAD_REQUEST, "me.html", language(&state, &request), page);
    }
    if let Some(to) = destination(typed) {
        enqueue(&state, caller, &request, to);
    }
    end(&state, &request, StatusCode::OK, "me_sent")
}

/// Whether somebody may have meant an address by this. All that looks like one has the same answer.
fn is_plausible(typed: &str) -> bool {
    typed.chars().count() <= MAX_EMAIL_CHARS && (typed.contains('@') || typed.starts_with('+'))
}

fn destination(typed: &str) -> Option<Recipient> {
    if typed.contains('@') {
        return Address::email(typed).map(Recipient::Mailbox);
    }
    // In the international form, so the country does not matter.
    PhoneNumber::parse(typed, "GB").map(Recipient::Phone)
}

/// Queues the request for a link. The person gets the same answer if a limit refuses it.
fn enqueue(state: &Data<State>, caller: Caller, request: &HttpRequest, to: Recipient) {
    if let Recipient::Phone(number) = &to
        && !state.sms.may_write_to(number)
    {
        return state.core.metrics.count_visit(VisitOutcome::NotServed);
    }
    if state.core.limits.visit_to(caller.network(), &to, state.core.clock.now()).is_err() {
        return state.core.metrics.count_visit(VisitOutcome::Limited);
    }
    let asked = LinkRequest::new(to, language(state, request), caller.network());
    if !state.core.visits.put(asked) {
        state.core.metrics.count_visit(VisitOutcome::QueueFull);
    }
}
