//! A person's own page: what is stored about one address, and what its owner can do about it
//! (design, P11 and P12).
//!
//! `ask` sends a link, `visit` turns the link into a cookie, `data` shows what there is, `acts` does
//! what the buttons say. It needs no account, no consent and no JavaScript. It shows one address and
//! nothing else of the account that the address belongs to, since mailboxes change hands.

mod acts;
mod ask;
mod data;
mod visit;

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{self, Cookie, SameSite},
    http::{StatusCode, header::LOCATION},
};
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::{
    acts::{allow, close, erase, export, set_language, suppress, withdraw},
    ask::{ask, send},
    data::{data, erase_question},
    visit::{confirm, open},
};
use super::{language, switch};
use crate::{
    domain::{ids::Token, refusal::Refusal, retention::VISIT_PAGE, visit::Visit},
    http::{State, body::Body, error::ApiError},
    ops::person::own_page,
};

/// The cookie of a visit. The prefix makes browsers accept it only from this host, over TLS.
const NAME: &str = "__Host-visit";
/// The cookie of a browser that has opened a link and not pressed the button yet.
const LINK_NAME: &str = "__Host-visit-link";

/// A browser with the secret of a visit that has not expired.
struct Visitor {
    secret: Token,
    visit: Visit,
}

impl Visitor {
    /// The visit of the request's cookie. The error is the page to show if there is none, or if a rate limit
    /// refuses.
    fn of(state: &State, request: &HttpRequest) -> Result<Self, Box<HttpResponse>> {
        Self::find(state, request, StatusCode::OK)
    }

    /// The visit and the submitted form. The error is the page to show if the token in the form is wrong, because
    /// another site sent it.
    fn acting(state: &State, request: &HttpRequest, body: &Body) -> Result<(Self, Form), Box<HttpResponse>> {
        let visitor = Self::find(state, request, StatusCode::FORBIDDEN)?;
        let form: Option<Form> = body.json_or_form().ok();
        let own = own_page::form_token(&state.core, &visitor.secret);
        let form = form.filter(|form| form.form.as_deref().and_then(Token::parse).as_ref() == Some(&own));
        form.map(|form| (visitor, form)).ok_or_else(|| Box::new(over(state, request, StatusCode::FORBIDDEN)))
    }

    fn find(state: &State, request: &HttpRequest, or: StatusCode) -> Result<Self, Box<HttpResponse>> {
        let secret = request.cookie(NAME).and_then(|cookie| Token::parse(cookie.value()));
        let secret = secret.ok_or_else(|| Box::new(over(state, request, or)))?;
        let visit = own_page::find_visit(&state.core, &secret);
        let visit = visit.map_err(|failure| Box::new(failed(state, request, &failure.into())))?;
        let visit = visit.ok_or_else(|| Box::new(over(state, request, or)))?;
        let limited = state.core.limits.own_page(&visit.address, state.core.clock.now());
        limited.map_err(|refusal| Box::new(failed(state, request, &refusal.into())))?;
        Ok(Self { secret, visit })
    }
}

/// What the forms of the page send.
#[derive(Deserialize)]
struct Form {
    /// Shows that the form is one of the page, see [`own_page::form_token`].
    form: Option<String>,
    language: Option<String>,
    sure: Option<String>,
}

impl Form {
    /// Whether the second question was answered as well.
    fn is_sure(&self) -> bool {
        self.sure.as_deref() == Some("yes")
    }
}

/// Gives the browser the secret of a visit.
fn set_cookie(response: &mut HttpResponse, secret: &Token) {
    put_cookie(response, NAME, secret.as_str(), VISIT_PAGE);
}

/// Deletes the browser's cookie.
fn forget_cookie(response: &mut HttpResponse) {
    put_cookie(response, NAME, "", Duration::ZERO);
}

fn put_cookie(response: &mut HttpResponse, name: &'static str, value: &str, max_age: Duration) {
    let max_age = cookie::time::Duration::seconds(max_age.as_secs().cast_signed());
    let cookie = Cookie::build(name, value)
        .path("/")
        .max_age(max_age)
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Strict)
        .finish();
    // It fails only if the cookie has characters that a header cannot have; secrets have none.
    let _ = response.add_cookie(&cookie);
}

fn empty_form(reason: Option<&str>) -> Value {
    let switch = switch(|language| format!("/me?lang={language}"));
    json!({ "reason": reason, "problem": null, "typed": "", "switch": switch })
}

/// The form that asks for an address. `reason` names the text that explains why it appears.
fn form(state: &State, request: &HttpRequest, status: StatusCode, reason: Option<&str>) -> HttpResponse {
    state.pages.show(status, "me.html", language(state, request), empty_form(reason))
}

/// The form, for a browser without a valid visit or form token.
fn over(state: &State, request: &HttpRequest, status: StatusCode) -> HttpResponse {
    form(state, request, status, Some("over"))
}

fn end(state: &State, request: &HttpRequest, status: StatusCode, outcome: &str) -> HttpResponse {
    let days = state.core.config.privacy.deleted_binding_days;
    let switch = switch(|language| format!("/me?lang={language}"));
    let page = json!({ "outcome": outcome, "deleted_binding_days": days, "switch": switch });
    state.pages.show(status, "me_outcome.html", language(state, request), page)
}

fn failed(state: &State, request: &HttpRequest, error: &ApiError) -> HttpResponse {
    match error {
        ApiError::Refused(Refusal::LimitExceeded { .. }) => {
            end(state, request, StatusCode::TOO_MANY_REQUESTS, "me_busy")
        }
        _ => end(state, request, StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    }
}

/// Redirects to the data page. `done` names what was done.
fn back(state: &State, request: &HttpRequest, done: Option<&str>) -> HttpResponse {
    let language = language(state, request).as_str();
    let done = done.map(|done| format!("done={done}&")).unwrap_or_default();
    let location = format!("/me/data?{done}lang={language}");
    state.pages.private_response(StatusCode::SEE_OTHER).insert_header((LOCATION, location)).finish()
}
