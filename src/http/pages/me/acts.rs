//! What the buttons of a person's own page do. Each form carries a token of the visit, so that no
//! other page can press them.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    web::Data,
};

use super::{Visitor, back, end, failed, forget_cookie, over};
use crate::{
    domain::{audit::By, language::Language},
    http::{State, body::Body, error::ApiError},
    ops::{
        address::{suppression, withdraw},
        person::{erasure, export, language, own_page},
    },
};

/// `POST /me/export`: downloads a copy of the data.
pub async fn export(state: Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    let (visitor, _) = match Visitor::acting(&state, &request, &body) {
        Ok(acting) => acting,
        Err(page) => return *page,
    };
    let (core, address) = (state.core.clone(), visitor.visit.address);
    // Each copy reads the logs, and adds an audit entry that is kept for a year.
    if let Err(refusal) = state.core.limits.copy_of(&address, core.clock.now()) {
        return failed(&state, &request, &refusal.into());
    }
    let copy = async move { export::of_address(&core, &address, By::Owner).await };
    match state.off_thread(copy).await.map(|copy| serde_json::to_vec_pretty(&copy)) {
        Ok(Ok(copy)) => {
            let mut response = state.pages.private_response(StatusCode::OK);
            response.insert_header((CONTENT_TYPE, "application/json"));
            response.insert_header((CONTENT_DISPOSITION, "attachment; filename=\"my-data.json\""));
            response.body(copy)
        }
        Ok(Err(_)) => failed(&state, &request, &ApiError::Internal),
        Err(error) => failed(&state, &request, &error),
    }
}

/// `POST /me/withdraw`: unpublishes the address.
pub async fn withdraw(state: Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    let (visitor, _) = match Visitor::acting(&state, &request, &body) {
        Ok(acting) => acting,
        Err(page) => return *page,
    };
    match withdraw::withdraw_by_owner(&state.core, visitor.visit.address, By::Owner).await {
        Ok(_) => back(&state, &request, Some("withdrawn")),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

/// `POST /me/erase`: erases everything about the address, and ends the visit.
pub async fn erase(state: Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    let (visitor, form) = match Visitor::acting(&state, &request, &body) {
        Ok(acting) => acting,
        Err(page) => return *page,
    };
    if !form.is_sure() {
        return over(&state, &request, StatusCode::FORBIDDEN);
    }
    let (core, address) = (state.core.clone(), visitor.visit.address);
    let erased = async move { erasure::erase_address(&core, address, By::Owner).await };
    match state.off_thread(erased).await {
        Ok(_) => farewell(&state, &request, "me_erased"),
        Err(error) => failed(&state, &request, &error),
    }
}

/// `POST /me/suppress`: opts the address out of messages.
pub async fn suppress(state: Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    let (visitor, _) = match Visitor::acting(&state, &request, &body) {
        Ok(acting) => acting,
        Err(page) => return *page,
    };
    match suppression::suppress(&state.core, visitor.visit.address, By::Owner).await {
        Ok(()) => back(&state, &request, Some("suppressed")),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

/// `POST /me/allow`: opts the address in again.
pub async fn allow(state: Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    let (visitor, _) = match Visitor::acting(&state, &request, &body) {
        Ok(acting) => acting,
        Err(page) => return *page,
    };
    match suppression::lift(&state.core, visitor.visit.address, By::Owner).await {
        Ok(_) => back(&state, &request, Some("allowed")),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

/// `POST /me/language`: changes the language of mails.
pub async fn set_language(state: Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    let (visitor, form) = match Visitor::acting(&state, &request, &body) {
        Ok(acting) => acting,
        Err(page) => return *page,
    };
    let chosen = form.language.as_deref().and_then(Language::parse);
    let Some(chosen) = chosen else { return over(&state, &request, StatusCode::FORBIDDEN) };
    let (core, address) = (state.core.clone(), visitor.visit.address);
    let changed = async move { language::set_language(&core, address, chosen).await };
    match state.off_thread(changed).await {
        Ok(()) => back(&state, &request, Some("language_changed")),
        Err(error) => failed(&state, &request, &error),
    }
}

/// `POST /me/close`: ends the visit.
pub async fn close(state: Data<State>, request: HttpRequest, body: Body) -> HttpResponse {
    let (visitor, _) = match Visitor::acting(&state, &request, &body) {
        Ok(acting) => acting,
        Err(page) => return *page,
    };
    match own_page::close(&state.core, &visitor.secret).await {
        Ok(()) => farewell(&state, &request, "me_closed"),
        Err(failure) => failed(&state, &request, &failure.into()),
    }
}

fn farewell(state: &State, request: &HttpRequest, outcome: &str) -> HttpResponse {
    let mut response = end(state, request, StatusCode::OK, outcome);
    forget_cookie(&mut response);
    response
}
