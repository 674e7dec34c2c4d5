//! The page behind a mailed link. It names the account that asked, and the reader presses *Confirm* or *Reject the
//! request* (design, section 4, rule 7).

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::LOCATION},
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{language, switch};
use crate::{
    config::Config,
    domain::{
        ids::{Sid, Token},
        refusal::Refusal,
        retention::SESSION,
        session::Session,
        shown::ShownId,
    },
    http::{State, body::Body, caller::Caller, error::ApiError},
    ops::address::{
        mailed_link::{self, Link, Question},
        suppression,
        validate::Validated,
    },
};

/// The link in a validation mail. It is short enough for a line of a mail, with a host of up to 21 characters.
pub fn confirm_link(config: &Config, sid: &Sid, token: &Token) -> String {
    format!("{}/c/{}", config.public_base_url, Session::link_word(sid, token))
}

/// The outcome that a page shows. The names are keys of the texts and values of `data-outcome`.
#[derive(Clone, Copy)]
enum Outcome {
    Verified,
    Expired,
    Withdrawn,
    Invalid,
    Busy,
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Invalid => "invalid",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Verified | Self::Withdrawn => StatusCode::OK,
            Self::Expired => StatusCode::GONE,
            Self::Invalid => StatusCode::NOT_FOUND,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn of(error: &ApiError) -> Self {
        match error {
            ApiError::Refused(Refusal::SessionExpired) => Self::Expired,
            ApiError::Refused(Refusal::LimitExceeded { .. }) => Self::Busy,
            ApiError::Internal => Self::Failed,
            _ => Self::Invalid,
        }
    }
}

#[derive(Deserialize)]
struct Decision {
    decision: Option<String>,
}

/// `GET /c/{word}`: shows the question and changes nothing.
pub async fn ask(state: Data<State>, request: HttpRequest, word: Path<String>) -> HttpResponse {
    let Some((sid, token)) = Session::parse_link_word(&word) else {
        return end(&state, &request, elsewhere(), None, Outcome::Invalid);
    };
    let here = in_each_language(&sid, &token);
    let end = |outcome| end(&state, &request, here.clone(), None, outcome);
    let with_form = |template: &str, asked: Question, outcome: &str| {
        let mut page = values(&state, Some(&asked), outcome, here.clone());
        page["link"] = json!(Session::link_word(&sid, &token));
        state.pages.show(StatusCode::OK, template, language(&state, &request), page)
    };
    match mailed_link::read_link(&state.core, &sid, &token) {
        Ok(Link::Ask(asked)) => with_form("confirm.html", asked, ""),
        Ok(Link::Used(asked)) => with_form("outcome.html", asked, "used"),
        Ok(Link::Expired) => end(Outcome::Expired),
        Ok(Link::Withdrawn(asked)) => {
            self::end(&state, &request, here.clone(), Some(&asked), Outcome::Withdrawn)
        }
        Ok(Link::Invalid) => end(Outcome::Invalid),
        Err(failure) => end(Outcome::of(&failure.into())),
    }
}

/// `POST /c/{word}`: confirms or withdraws the session, as the reader decided.
pub async fn decide(
    state: Data<State>,
    caller: Caller,
    request: HttpRequest,
    word: Path<String>,
    body: Body,
) -> HttpResponse {
    let Some((sid, token)) = Session::parse_link_word(&word) else {
        return end(&state, &request, elsewhere(), None, Outcome::Invalid);
    };
    let decision = body.json_or_form::<Decision>().ok().and_then(|wire| wire.decision).unwrap_or_default();
    let here = in_each_language(&sid, &token);
    if let Err(refusal) = state.core.limits.submit_link(caller.network(), state.core.clock.now()) {
        return end(&state, &request, here, None, Outcome::of(&refusal.into()));
    }
    let decided = match decision.as_str() {
        "confirm" => mailed_link::confirm(&state.core, sid.clone(), token.clone()).await,
        "withdraw" => {
            let withdrawn = mailed_link::withdraw(&state.core, sid.clone(), token.clone()).await;
            match withdrawn.and_then(|()| mailed_link::read_link(&state.core, &sid, &token)) {
                Ok(link) => return end(&state, &request, here, link.question(), Outcome::Withdrawn),
                Err(failure) => Err(failure),
            }
        }
        _ => return end(&state, &request, here, None, Outcome::Invalid),
    };
    let read = mailed_link::read_link(&state.core, &sid, &token);
    let asked = read.as_ref().ok().and_then(Link::question);
    submitted(&state, &request, here, asked, decided.map_err(ApiError::from))
}

/// The answer after a validation by link: a redirect to the client's `next_link` if there is one, else the page
/// with the outcome. `here` has the links to the page in each language, or is null. `asked` is for the holder of a mailed
/// link only.
pub fn submitted(
    state: &State,
    request: &HttpRequest,
    here: Value,
    asked: Option<&Question>,
    outcome: Result<Validated, ApiError>,
) -> HttpResponse {
    match outcome {
        Ok(Validated { next_link: Some(link) }) => {
            state.pages.private_response(StatusCode::SEE_OTHER).insert_header((LOCATION, link)).finish()
        }
        Ok(Validated { next_link: None }) => end(state, request, here, asked, Outcome::Verified),
        Err(error) => end(state, request, here, None, Outcome::of(&error)),
    }
}

/// For an incomplete link: the front page in each language.
fn elsewhere() -> Value {
    switch(|language| format!("/?lang={language}"))
}

fn end(
    state: &State,
    request: &HttpRequest,
    here: Value,
    asked: Option<&Question>,
    outcome: Outcome,
) -> HttpResponse {
    let page = values(state, asked, outcome.name(), here);
    state.pages.show(outcome.status(), "outcome.html", language(state, request), page)
}

/// The values of `confirm.html` and `outcome.html`. They say something about an address only if `asked` is given, which
/// is for the holder of a valid link alone.
pub(super) fn values(state: &State, asked: Option<&Question>, outcome: &str, switch: Value) -> Value {
    json!({
        "account": asked.and_then(|asked| asked.account.as_ref()).map(ShownId::of_user),
        "published": asked.and_then(|asked| asked.published.as_ref()).map(ShownId::of_user),
        "address": asked.map(|asked| asked.address.as_str()),
        "stop": asked.map(|asked| suppression::stop_path(&state.core, &asked.address)),
        "session_hours": SESSION.as_secs() / 3600,
        "link": null,
        "outcome": outcome,
        "switch": switch,
    })
}

/// The link to this page in each language. Following it changes nothing.
fn in_each_language(sid: &Sid, token: &Token) -> Value {
    switch(|language| format!("/c/{}?lang={language}", Session::link_word(sid, token)))
}
