//! What is stored about an address, in words.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Visitor, failed, over};
use crate::{
    domain::{threepid::Medium, time::Millis},
    http::{
        State,
        body::query,
        pages::{language, switch},
    },
    ops::{
        export::{self, Export},
        visits,
    },
};

/// What the page may say was done; the names of texts.
const DONE: [&str; 3] = ["withdrawn", "silenced", "spoken"];

/// `GET /me/data`
pub async fn data(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let Some(visitor) = Visitor::of(&state, &request) else { return over(&state, &request, StatusCode::OK) };
    let (core, address) = (state.core.clone(), visitor.visit.address.clone());
    let looked = state.off_thread(async move { export::about_address(&core, &address, Vec::new()) }).await;
    match looked {
        Ok(found) => {
            let page = in_words(&state, &request, &visitor, &found);
            state.pages.show(StatusCode::OK, "me_data.html", language(&state, &request), page)
        }
        Err(error) => failed(&state, &request, &error),
    }
}

/// `GET /me/erase`: asks once more.
pub async fn erase_question(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let Some(visitor) = Visitor::of(&state, &request) else { return over(&state, &request, StatusCode::OK) };
    let switch = switch(|language| format!("/me/erase?lang={language}"));
    let page = json!({ "address": shown(&visitor), "form": form(&state, &visitor), "switch": switch });
    state.pages.show(StatusCode::OK, "me_erase.html", language(&state, &request), page)
}

fn form(state: &State, visitor: &Visitor) -> String {
    visits::form_token(&state.core, &visitor.secret).as_str().to_owned()
}

fn shown(visitor: &Visitor) -> String {
    let address = &visitor.visit.address;
    let plus = if address.medium() == Medium::Msisdn { "+" } else { "" };
    format!("{plus}{}", address.as_str())
}

fn in_words(state: &State, request: &HttpRequest, visitor: &Visitor, found: &Export) -> Value {
    #[derive(Deserialize)]
    struct Query {
        done: Option<String>,
    }
    let done = query::<Query>(request).ok().and_then(|query| query.done);
    let time = |at: u64| format!("{} UTC", Millis(at).utc());
    let binding = found.bindings.first();
    let sessions = found.validation_sessions.iter();
    let invitations = found.invitations_received.iter();
    let waiting = found.waiting_to_be_sent.iter();
    let audit = found.audit.iter();
    json!({
        "switch": switch(|language| format!("/me/data?lang={language}")),
        "done": done.filter(|done| DONE.contains(&done.as_str())),
        "form": form(state, visitor),
        "address": shown(visitor),
        "is_mail": visitor.visit.address.medium() == Medium::Email,
        "until": time(visitor.visit.until.0),
        "binding": binding.map(|one| json!({ "user_id": one.user_id, "since": time(one.since) })),
        "sessions": sessions.map(|one| json!({ "state": one.state, "until": time(one.until) })).collect::<Vec<_>>(),
        "invitations": invitations
            .map(|one| json!({ "room_id": one.room_id, "since": time(one.since), "until": time(one.until) }))
            .collect::<Vec<_>>(),
        "waiting": waiting.map(|one| json!({ "kind": one.kind, "until": time(one.until) })).collect::<Vec<_>>(),
        "audit": audit
            .map(|one| json!({ "at": time(one.at), "deed": one.deed, "by": one.by }))
            .collect::<Vec<_>>(),
        "silent": found.not_written_to_since.map(time),
        "language": binding.map(|one| one.language),
        "speaks": binding.is_some() || !found.validation_sessions.is_empty(),
    })
}
