//! The link to a person's own page. Opening it only asks, because mail scanners open links; the button uses it
//! up and sets a cookie (design, section 4, rule 7).

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use serde::Deserialize;
use serde_json::json;

use super::{back, failed, form, set_cookie};
use crate::{
    domain::ids::Token,
    http::{
        State,
        body::{Body, query},
        caller::Caller,
        pages::{language, switch},
    },
    ops::person::own_page,
};

#[derive(Deserialize)]
struct Link {
    token: Option<String>,
}

/// `GET /me/visit`: shows the question and changes nothing.
pub async fn open(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let token = query::<Link>(&request).ok().and_then(|link| Token::parse(&link.token?));
    let Some(token) = token else { return useless(&state, &request) };
    match own_page::is_link(&state.core, &token) {
        Ok(true) => {
            let here = |language: &str| format!("/me/visit?token={}&lang={language}", token.as_str());
            let page = json!({ "token": token.as_str(), "switch": switch(here) });
            state.pages.show(StatusCode::OK, "me_visit.html", language(&state, &request), page)
        }
        Ok(false) => useless(&state, &request),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

/// `POST /me/visit`: uses the link up and opens the page.
pub async fn confirm(state: Data<State>, caller: Caller, request: HttpRequest, body: Body) -> HttpResponse {
    if let Err(refusal) = state.core.limits.submit_link(caller.network(), state.core.clock.now()) {
        return failed(&state, &request, &refusal.into());
    }
    let token = body.json_or_form::<Link>().ok().and_then(|link| Token::parse(&link.token?));
    let Some(token) = token else { return useless(&state, &request) };
    match own_page::confirm(&state.core, token).await {
        Ok(Some(secret)) => {
            let mut response = back(&state, &request, None);
            set_cookie(&mut response, &secret);
            response
        }
        Ok(None) => useless(&state, &request),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

fn useless(state: &State, request: &HttpRequest) -> HttpResponse {
    form(state, request, StatusCode::GONE, Some("link_over"))
}
