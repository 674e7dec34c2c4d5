//! Answers `hash_details` and lookups.
//!
//! Lookups are the most frequent requests. So the handler borrows the addresses from the request, and writes the
//! answer straight into the response.

use std::{borrow::Cow, net::IpAddr};

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
    ops::{self, Core, account::tokens::Authenticated, lookup::Lookup},
};

/// `GET /hash_details`
pub async fn hash_details(state: Data<State>, _account: AccountFromHeaderOrQuery) -> Answer {
    json(json!({
        "lookup_pepper": ops::lookup::pepper(&state.core),
        "algorithms": ops::lookup::algorithms(&state.core),
    }))
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    algorithm: Option<Text<'a>>,
    #[serde(borrow)]
    pepper: Option<Text<'a>>,
    #[serde(borrow)]
    addresses: Option<Vec<Text<'a>>>,
}

/// A string that borrows from the request body, unless it contains escapes.
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
    let request: Request<'_> = body.json()?;
    let algorithm = required(request.algorithm, "algorithm")?;
    let pepper = required(request.pepper, "pepper")?;
    let addresses = required(request.addresses, "addresses")?;
    let lookup = Lookup { algorithm: algorithm.as_ref(), pepper: pepper.as_ref(), addresses: &addresses };
    let answer = mappings(&state.core, &account.0, caller.ip(), &lookup)?;
    Ok(HttpResponse::Ok().content_type(ContentType::json()).body(answer))
}

/// Runs the lookup and writes each mapping as soon as it is found.
fn mappings<T: AsRef<str>>(
    core: &Core,
    account: &Authenticated,
    caller: IpAddr,
    lookup: &Lookup<'_, T>,
) -> Result<Vec<u8>, ApiError> {
    let mut answer = Vec::with_capacity(256);
    answer.extend(br#"{"mappings":"#);
    let mut serializer = serde_json::Serializer::new(&mut answer);
    let mut map = serializer.serialize_map(None).map_err(|_| ApiError::Internal)?;
    let mut written = Ok(());
    ops::lookup::run(core, account, caller, lookup, |address, user_id| {
        if written.is_ok() {
            written = map.serialize_entry(address, user_id);
        }
    })?;
    written.and_then(|()| map.end()).map_err(|_| ApiError::Internal)?;
    answer.push(b'}');
    Ok(answer)
}
