//! Serves the terms of service and records their acceptance.

use actix_web::web::Data;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, empty, json};
use crate::{
    domain::terms::Required,
    http::{
        State,
        body::{Body, required},
        caller::AccountBeforeTerms,
    },
    ops::account::terms,
};

/// `GET /terms`
pub async fn terms(state: Data<State>) -> Answer {
    let in_force = state.core.in_force();
    let policies = in_force.terms.iter().map(|Required { id, document, .. }| {
        let mut policy = Map::new();
        policy.insert("version".to_owned(), json!(document.version));
        for (language, text) in &document.languages {
            policy.insert(language.clone(), json!({ "name": text.name, "url": text.url }));
        }
        (id.clone(), Value::Object(policy))
    });
    json(json!({ "policies": policies.collect::<Map<_, _>>() }))
}

#[derive(Deserialize)]
struct Accept {
    user_accepts: Option<Vec<String>>,
}

/// `POST /terms`
pub async fn accept(state: Data<State>, account: AccountBeforeTerms, body: Body) -> Answer {
    let request: Accept = body.json()?;
    let urls = required(request.user_accepts, "user_accepts")?;
    terms::accept(&state.core, account.0, &urls).await?;
    empty()
}
