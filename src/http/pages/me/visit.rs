//! The link to a person's own page. Opening it only asks, because mail scanners open links; the button uses it
//! up and sets a cookie (design, section 4, rule 7).
//!
//! The form carries a token of the browser that opened the link. Otherwise a stranger could have another browser
//! open the stranger's own page, and its user would act on the wrong address.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::json;

use super::{LINK_NAME, back, failed, form, over, put_cookie, set_cookie};
use crate::{
    domain::{ids::Token, retention::VISIT_LINK},
    http::{
        State,
        body::Body,
        caller::Caller,
        pages::{language, switch},
    },
    ops::person::own_page,
};

#[derive(Deserialize)]
struct Pressed {
    form: Option<String>,
}

/// `GET /me/visit/{token}`: shows the question and changes nothing.
pub async fn open(state: Data<State>, request: HttpRequest, token: Path<String>) -> HttpResponse {
    let Some(link) = Token::parse(&token) else { return useless(&state, &request) };
    match own_page::is_link(&state.core, &link) {
        Ok(true) => {
            // The browser keeps its secret, so that two open links do not disturb each other.
            let browser = browser_of(&request).unwrap_or_else(own_page::browser_secret);
            let form = own_page::link_form_token(&state.core, &browser, &link);
            let here = |language: &str| format!("/me/visit/{}?lang={language}", link.as_str());
            let page = json!({ "link": link.as_str(), "form": form.as_str(), "switch": switch(here) });
            let mut response =
                state.pages.show(StatusCode::OK, "me_visit.html", language(&state, &request), page);
            put_cookie(&mut response, LINK_NAME, browser.as_str(), VISIT_LINK);
            response
        }
        Ok(false) => useless(&state, &request),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

/// `POST /me/visit/{token}`: uses the link up and opens the page.
pub async fn confirm(
    state: Data<State>,
    caller: Caller,
    request: HttpRequest,
    token: Path<String>,
    body: Body,
) -> HttpResponse {
    if let Err(refusal) = state.core.limits.submit_link(caller.network(), state.core.clock.now()) {
        return failed(&state, &request, &refusal.into());
    }
    let Some(link) = Token::parse(&token) else { return useless(&state, &request) };
    let pressed = body.json_or_form::<Pressed>().ok().and_then(|pressed| Token::parse(&pressed.form?));
    let own = browser_of(&request).map(|browser| own_page::link_form_token(&state.core, &browser, &link));
    if own.is_none() || pressed != own {
        return over(&state, &request, StatusCode::FORBIDDEN);
    }
    match own_page::confirm(&state.core, link).await {
        Ok(Some(secret)) => {
            let mut response = back(&state, &request, None);
            set_cookie(&mut response, &secret);
            response
        }
        Ok(None) => useless(&state, &request),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

/// The secret of the browser that opened the link.
fn browser_of(request: &HttpRequest) -> Option<Token> {
    request.cookie(LINK_NAME).and_then(|cookie| Token::parse(cookie.value()))
}

fn useless(state: &State, request: &HttpRequest) -> HttpResponse {
    form(state, request, StatusCode::GONE, Some("link_over"))
}
