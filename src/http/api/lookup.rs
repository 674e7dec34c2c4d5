//! Hash details and lookups.
//!
//! The busiest handler of all: it borrows the addresses from the request and writes the answer
//! straight into the response.

use std::borrow::Cow;

use actix_web::{HttpResponse, http::header::ContentType, web::Data};
use serde::{Deserialize, Serializer, ser::SerializeMap};
use serde_json::json;

use super::{Answer, json};
use crate::{
    http::{
        State,
        body::{Body, required},
        caller::{Account, AccountFromHeaderOrQuery, Caller},
        error::ApiError,
    },
    logs::LookupRow,
    ops::lookup::{self, Query},
};

/// `GET /hash_details`
pub async fn hash_details(state: Data<State>, _account: AccountFromHeaderOrQuery) -> Answer {
    json(json!({
        "lookup_pepper": lookup::pepper(&state.core),
        "algorithms": lookup::algorithms(&state.core),
    }))
}

#[derive(Deserialize)]
struct Lookup<'a> {
    #[serde(borrow)]
    algorithm: Option<Text<'a>>,
    #[serde(borrow)]
    pepper: Option<Text<'a>>,
    #[serde(borrow)]
    addresses: Option<Vec<Text<'a>>>,
}

/// A string that stays in the request body unless it has escapes in it.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// `POST /lookup`
pub async fn lookup(state: Data<State>, account: Account, caller: Caller, body: Body) -> Answer {
    account.0.recheck(&state.core)?;
    let request: Lookup<'_> = body.json()?;
    let algorithm = required(request.algorithm, "algorithm")?;
    let pepper = required(request.pepper, "pepper")?;
    let addresses = required(request.addresses, "addresses")?;
    let query = Query::check(&state.core, algorithm.as_ref(), pepper.as_ref(), &addresses)?;
    let now = state.core.clock.now();
    state.core.budgets.take(account.0.user_id(), caller.network(), query.cost(), now)?;
    let mut row =
        state.logs.lookup_row(account.0.user_id(), caller.ip(), query.algorithm(), query.cost(), now);
    let answer = mappings(&query, &mut row)?;
    state.logs.looked_up(row);
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(answer))
}

/// The answer; what was asked for goes into the log.
fn mappings<T: AsRef<str>>(query: &Query<'_, T>, row: &mut LookupRow<'_>) -> Result<Vec<u8>, ApiError> {
    let mut answer = Vec::with_capacity(256);
    answer.extend(br#"{"mappings":"#);
    let mut serializer = serde_json::Serializer::new(&mut answer);
    let mut map = serializer.serialize_map(None).map_err(|_| ApiError::Internal)?;
    let mut written = Ok(());
    query.run(|address, user_id| {
        row.add(address, user_id.is_some());
        if let (Some(user_id), Ok(())) = (user_id, &written) {
            written = map.serialize_entry(address, user_id);
        }
    })?;
    written.and_then(|()| map.end()).map_err(|_| ApiError::Internal)?;
    answer.push(b'}');
    Ok(answer)
}
