//! Renders what is stored about an address.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web::Data};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Visitor, failed};
use crate::{
    config::LookupLog,
    domain::{
        ids::{RoomId, UserId},
        shown::ShownId,
        threepid::Medium,
    },
    http::{
        State,
        body::query,
        pages::{language, switch},
    },
    ops::{
        Failure,
        address::owner_mail,
        person::{
            export::{self, Export},
            own_page,
        },
    },
};

/// The keys of the texts that tell what was done.
const DONE: [&str; 4] = ["withdrawn", "suppressed", "allowed", "language_changed"];

/// `GET /me/data`
pub async fn data(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let visitor = match Visitor::of(&state, &request) {
        Ok(visitor) => visitor,
        Err(page) => return *page,
    };
    let (core, address) = (state.core.clone(), visitor.visit.address.clone());
    let looked = state.off_thread(async move { export::about_address(&core, &address) }).await;
    match looked {
        Ok(found) => {
            let page = in_words(&state, &request, &visitor, &found);
            state.pages.show(StatusCode::OK, "me_data.html", language(&state, &request), page)
        }
        Err(error) => failed(&state, &request, &error),
    }
}

/// `GET /me/erase`: asks once more, and says what stays.
pub async fn erase_question(state: Data<State>, request: HttpRequest) -> HttpResponse {
    let visitor = match Visitor::of(&state, &request) {
        Ok(visitor) => visitor,
        Err(page) => return *page,
    };
    let will_hear = match owner_mail::will_hear(&state.core, &visitor.visit.address) {
        Ok(will_hear) => will_hear,
        Err(error) => return failed(&state, &request, &Failure::from(error).into()),
    };
    let privacy = &state.core.config.privacy;
    let page = json!({
        "address": shown(&visitor),
        "form": form(&state, &visitor),
        "will_hear": will_hear,
        "log_days": (privacy.lookup_log == LookupLog::Full).then_some(privacy.lookup_log_days),
        "switch": switch(|language| format!("/me/erase?lang={language}")),
    });
    state.pages.show(StatusCode::OK, "me_erase.html", language(&state, &request), page)
}

fn form(state: &State, visitor: &Visitor) -> String {
    own_page::form_token(&state.core, &visitor.secret).as_str().to_owned()
}

fn shown(visitor: &Visitor) -> String {
    let address = &visitor.visit.address;
    let plus = if address.medium() == Medium::Msisdn { "+" } else { "" };
    format!("{plus}{}", address.as_str())
}

/// How many minutes the visit lasts from now on, rounded up.
fn minutes_left(state: &State, visitor: &Visitor) -> u64 {
    visitor.visit.until.0.saturating_sub(state.core.clock.now().0).div_ceil(60_000)
}

fn in_words(state: &State, request: &HttpRequest, visitor: &Visitor, found: &Export) -> Value {
    #[derive(Deserialize)]
    struct Query {
        done: Option<String>,
    }
    let done = query::<Query>(request).ok().and_then(|query| query.done);
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
        "minutes_left": minutes_left(state, visitor),
        "binding": binding.map(|one| json!({
            "account": UserId::kept(&one.user_id).as_ref().map(ShownId::of_user),
            "since": one.since,
        })),
        "sessions": sessions.map(|one| json!({ "state": one.state, "until": one.until })).collect::<Vec<_>>(),
        "invitations": invitations
            .map(|one| json!({
                "room": RoomId::kept(&one.room_id).as_ref().map(ShownId::of_room),
                "since": one.since,
                "until": one.until,
            }))
            .collect::<Vec<_>>(),
        "waiting": waiting.map(|one| json!({ "kind": one.kind, "until": one.until })).collect::<Vec<_>>(),
        "audit": audit
            .map(|one| json!({ "at": one.at, "deed": one.deed, "by": one.by }))
            .collect::<Vec<_>>(),
        "silent": found.not_written_to_since,
        "language": binding.map(|one| one.language),
        "speaks": binding.is_some() || !found.validation_sessions.is_empty(),
    })
}
