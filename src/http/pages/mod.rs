//! The web pages: the front page, the pages behind mailed links, the privacy notice, and a person's own page.
//!
//! Mail scanners open links, so opening a link changes nothing; only the button does. All pages work without
//! JavaScript, load nothing from other servers, and forbid caching.

mod confirm;
pub mod me;
mod notice;
mod privacy;
mod render;
mod security_txt;
pub mod stop;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::ACCEPT_LANGUAGE},
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::{
    confirm::{ask, confirm_link, decide, submitted},
    notice::texts as notice_texts,
    privacy::{editions, in_force, text},
    render::Pages,
    security_txt::security_txt,
};
use super::{State, body::query, error::ApiError};
use crate::{assets, domain::language::Language};

/// `GET /`
pub async fn front(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let switch = switch(|language| format!("/?lang={language}"));
    let about = json!({ "url": state.core.config.public_base_url, "switch": switch });
    state.pages.show(StatusCode::OK, "front.html", language(&state, &request), about)
}

/// `GET /assets/{file}`
pub async fn asset(file: Path<String>) -> Result<HttpResponse, ApiError> {
    let media_type = match file.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => return Err(ApiError::UnknownPath),
    };
    let bytes = assets::embedded(&format!("static/{file}")).ok_or(ApiError::UnknownPath)?;
    Ok(HttpResponse::Ok()
        .content_type(media_type)
        .insert_header(("Cache-Control", "max-age=3600"))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(bytes.into_owned()))
}

/// The language of a page: from the link, else from the browser, else the operator's default.
fn language(state: &State, request: &HttpRequest) -> Language {
    #[derive(Deserialize)]
    struct Chosen {
        lang: Option<String>,
    }
    let chosen = query::<Chosen>(request).ok().and_then(|chosen| Language::parse(&chosen.lang?));
    chosen.unwrap_or_else(|| preferred_language(state, request))
}

/// The language of the `Accept-Language` header, else the operator's default.
pub fn preferred_language(state: &State, request: &HttpRequest) -> Language {
    let header = request.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    header.and_then(Language::wanted).unwrap_or(state.core.config.mail.default_language)
}

/// A page that says how something ended, and nothing about an address. `outcome` is a key of the texts, `switch` has
/// the links to the page in each language.
fn end(state: &State, status: StatusCode, language: Language, outcome: &str, switch: Value) -> HttpResponse {
    let page = confirm::values(state, None, outcome, switch);
    state.pages.show(status, "outcome.html", language, page)
}

/// Links to the same page in each language.
fn switch(path: impl Fn(&str) -> String) -> Value {
    let link = |language: Language| json!({ "code": language.as_str(), "name": language.own_name(), "url": path(language.as_str()) });
    Language::ALL.map(link).into()
}
