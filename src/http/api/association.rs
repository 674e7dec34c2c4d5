//! Binds an address to a Matrix ID and unbinds it.

use actix_web::{HttpRequest, http::header::AUTHORIZATION, web::Data};
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, empty, json};
use crate::{
    domain::{
        ids::{ClientSecret, Sid, UserId},
        refusal::Refusal,
        signing::XMatrix,
        threepid::{Address, Medium},
    },
    http::{
        State,
        body::{Body, parsed, required},
        caller::{Account, Caller},
        error::ApiError,
    },
    ops::{
        address::{publish, withdraw},
        keys,
        x_matrix::SignedRequest,
    },
};

#[derive(Deserialize)]
struct Bind {
    sid: Option<String>,
    client_secret: Option<String>,
    mxid: Option<String>,
}

/// `POST /3pid/bind`
pub async fn bind(state: Data<State>, account: Account, caller: Caller, body: Body) -> Answer {
    let wire: Bind = body.json_or_form()?;
    let sid = parsed(wire.sid, "sid", Sid::parse)?;
    let secret = parsed(wire.client_secret, "client_secret", ClientSecret::parse)?;
    let user_id = parsed(wire.mxid, "mxid", UserId::parse)?;
    state.core.limits.bind(caller.network(), account.0.user_id(), state.core.clock.now())?;
    let association = publish::bind(&state.core, account.0, sid, secret, user_id).await?;
    let core = state.core.clone();
    let signed = async move { Ok::<_, ApiError>(keys::sign_association(&core, &association)) };
    json(state.off_thread(signed).await?)
}

#[derive(Deserialize)]
struct Unbind {
    sid: Option<String>,
    client_secret: Option<String>,
    mxid: Option<String>,
    threepid: Option<ThreePid>,
}

#[derive(Deserialize)]
struct ThreePid {
    medium: Option<String>,
    address: Option<String>,
}

impl ThreePid {
    fn parse(self) -> Result<Address, ApiError> {
        let medium = parsed(self.medium, "medium", Medium::parse)?;
        parsed(self.address, "address", |text| Address::parse(medium, text))
    }
}

/// `POST /3pid/unbind`: a validated session or the homeserver's signature proves that the caller may unbind.
pub async fn unbind(state: Data<State>, caller: Caller, request: HttpRequest, body: Body) -> Answer {
    state.core.limits.unbind(caller.network(), state.core.clock.now())?;
    // The homeserver signs the whole content, including members that Bindery does not know.
    let content: Value = body.json()?;
    let wire = Unbind::deserialize(&content)
        .map_err(|_| Refusal::InvalidParam("A parameter has the wrong type".to_owned()))?;
    let user_id = parsed(wire.mxid, "mxid", UserId::kept)?;
    let address = required(wire.threepid, "threepid")?.parse()?;
    if wire.sid.is_some() || wire.client_secret.is_some() {
        let sid = parsed(wire.sid, "sid", Sid::parse)?;
        let secret = parsed(wire.client_secret, "client_secret", ClientSecret::parse)?;
        withdraw::unbind_by_session(&state.core, sid, secret, user_id, address).await?;
        return empty();
    }
    let headers = request.headers().get_all(AUTHORIZATION).filter_map(|value| value.to_str().ok());
    let authorizations: Vec<XMatrix> = headers.filter_map(XMatrix::parse).collect();
    if authorizations.is_empty() {
        return Err(Refusal::Forbidden(
            "Prove that you may do this: send sid and client_secret, or the signature of your homeserver",
        )
        .into());
    }
    let uri = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let signed = SignedRequest { authorizations, caller: caller.network(), uri, content };
    let core = state.core.clone();
    let unbound = async move { withdraw::unbind_by_homeserver(&core, &signed, user_id, address).await };
    state.off_thread(unbound).await?;
    empty()
}
