//! The pages of the privacy notice: the list of its editions with their changes, and the published text of each.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde_json::{Value, json};

use super::{end, language, switch};
use crate::{
    domain::{
        edition::{Edition, Name},
        language::Language,
        notice::FactChange,
    },
    http::{State, error::ApiError},
    ops::privacy_notice,
};

/// `GET /privacy`
pub async fn editions(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let in_force = state.core.in_force();
    let editions = &in_force.editions;
    let before = std::iter::once(None).chain(editions.iter().map(Some));
    let mut rows: Vec<Value> =
        editions.iter().zip(before).map(|(edition, before)| row(edition, before)).collect();
    rows.reverse();
    let language = language(&state, &request);
    let title = privacy_notice::title(language);
    let page = json!({ "title": title, "editions": rows, "switch": switch(|language| format!("/privacy?lang={language}")) });
    state.pages.show(StatusCode::OK, "editions.html", language, page)
}

fn row(edition: &Edition, before: Option<&Edition>) -> Value {
    let changes = before.map(|before| edition.facts.changes_since(&before.facts)).unwrap_or_default();
    // If the operator turns the lookup log off, that change is listed; a period of 0 days is not.
    let is_end = |change: &FactChange| matches!(change, FactChange::Period { to: 0, .. });
    let changes: Vec<Value> = changes.iter().filter(|change| !is_end(change)).map(change).collect();
    json!({
        "number": edition.number,
        "published": edition.published,
        "is_first": before.is_none(),
        "asks": before.is_none_or(|before| before.consent != edition.consent),
        "changes": changes,
    })
}

fn change(change: &FactChange) -> Value {
    let mut value = json!(change);
    value["worse"] = json!(change.is_for_the_worse());
    value
}

/// `GET /privacy/{language}`: the text that is in force. Mails link to it.
pub async fn in_force(state: Data<State>, request: HttpRequest, code: Path<String>) -> HttpResponse {
    let in_force = state.core.in_force();
    let found = in_force.editions.last().zip(Language::parse(&code));
    show(&state, &request, found, |language| format!("/privacy/{language}"))
}

/// `GET /privacy/{name}/{language}`
pub async fn text(state: Data<State>, request: HttpRequest, path: Path<(String, String)>) -> HttpResponse {
    let (name, code) = path.into_inner();
    let wanted = Language::ALL.into_iter().find(|language| language.as_str() == code);
    let in_force = state.core.in_force();
    let edition = Name::parse(&name).and_then(|name| name.find(&in_force.editions));
    if let (Some(language), None) = (wanted, edition) {
        return outcome(&state, StatusCode::NOT_FOUND, language, "unknown_edition");
    }
    show(&state, &request, edition.zip(wanted), |language| format!("/privacy/{name}/{language}"))
}

/// The text of an edition in a language. `path` leads to it in another.
fn show(
    state: &State,
    request: &HttpRequest,
    found: Option<(&Edition, Language)>,
    path: impl Fn(&str) -> String,
) -> HttpResponse {
    let Some((edition, language)) = found else {
        return outcome(state, StatusCode::NOT_FOUND, language(state, request), "unknown_edition");
    };
    let text = match privacy_notice::texts(&state.core, edition.number) {
        Ok(mut texts) => texts.remove(&language).unwrap_or_default(),
        Err(error) => {
            // The conversion logs the error.
            let _ = ApiError::from(error);
            return outcome(state, StatusCode::INTERNAL_SERVER_ERROR, language, "failed");
        }
    };
    let latest = state.core.in_force().editions.last().map_or(edition.number, |latest| latest.number);
    let page = json!({
        "title": privacy_notice::title(language),
        "number": edition.number,
        "published": edition.published,
        "newer": (latest != edition.number).then_some(latest),
        "text": text,
        "switch": switch(path),
    });
    state.pages.show(StatusCode::OK, "edition.html", language, page)
}

fn outcome(state: &State, status: StatusCode, language: Language, outcome: &str) -> HttpResponse {
    // The edition may not exist in the other languages either, so link to the list.
    end(state, status, language, outcome, switch(|language| format!("/privacy?lang={language}")))
}
