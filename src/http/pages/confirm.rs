//! The page behind a mailed link. It names the account that asked, and the reader presses *Confirm* or *This was
//! not me* (design, section 4, rule 7).

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
        session::Session,
        shown::ShownId,
    },
    http::{State, body::Body, caller::Caller, error::ApiError},
    ops::address::{
        mailed_link::{self, Link, Question},
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
        return end(&state, &request, elsewhere(), Outcome::Invalid);
    };
    let here = in_each_language(&sid, &token);
    let end = |outcome| end(&state, &request, here.clone(), outcome);
    let question = |template: &str, question: Question, outcome: Option<&str>| {
        let Question { account, published } = question;
        let page = json!({
            "account": account.as_ref().map(ShownId::of_user),
            "published": published.as_ref().map(ShownId::of_user),
            "link": Session::link_word(&sid, &token), "outcome": outcome, "switch": here,
        });
        state.pages.show(StatusCode::OK, template, language(&state, &request), page)
    };
    match mailed_link::read_link(&state.core, &sid, &token) {
        Ok(Link::Ask(asked)) => question("confirm.html", asked, None),
        Ok(Link::Used(asked)) => question("outcome.html", asked, Some("used")),
        Ok(Link::Expired) => end(Outcome::Expired),
        Ok(Link::Withdrawn) => end(Outcome::Withdrawn),
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
        return end(&state, &request, elsewhere(), Outcome::Invalid);
    };
    let decision = body.json_or_form::<Decision>().ok().and_then(|wire| wire.decision).unwrap_or_default();
    let here = in_each_language(&sid, &token);
    if let Err(refusal) = state.core.limits.submit_link(caller.network(), state.core.clock.now()) {
        return end(&state, &request, here, Outcome::of(&refusal.into()));
    }
    match decision.as_str() {
        "confirm" => {
            let outcome = mailed_link::confirm(&state.core, sid.clone(), token.clone()).await;
            submitted(&state, &request, here, outcome.map_err(ApiError::from))
        }
        "withdraw" => {
            let outcome = mailed_link::withdraw(&state.core, sid.clone(), token.clone()).await;
            let outcome =
                outcome.map_or_else(|failure| Outcome::of(&failure.into()), |()| Outcome::Withdrawn);
            end(&state, &request, here, outcome)
        }
        _ => end(&state, &request, here, Outcome::Invalid),
    }
}

/// The answer after a validation by link: a redirect to the client's `next_link` if there is one, else the page
/// with the outcome. `here` has the links to the page in each language, or is null.
pub fn submitted(
    state: &State,
    request: &HttpRequest,
    here: Value,
    outcome: Result<Validated, ApiError>,
) -> HttpResponse {
    match outcome {
        Ok(Validated { next_link: Some(link) }) => {
            state.pages.private_response(StatusCode::SEE_OTHER).insert_header((LOCATION, link)).finish()
        }
        Ok(Validated { next_link: None }) => end(state, request, here, Outcome::Verified),
        Err(error) => end(state, request, here, Outcome::of(&error)),
    }
}

/// For an incomplete link: the front page in each language.
fn elsewhere() -> Value {
    switch(|language| format!("/?lang={language}"))
}

fn end(state: &State, request: &HttpRequest, here: Value, outcome: Outcome) -> HttpResponse {
    let page = json!({ "outcome": outcome.name(), "link": null, "switch": here });
    state.pages.show(outcome.status(), "outcome.html", language(state, request), page)
}

/// The link to this page in each language. Following it changes nothing.
fn in_each_language(sid: &Sid, token: &Token) -> Value {
    switch(|language| format!("/c/{}?lang={language}", Session::link_word(sid, token)))
}
