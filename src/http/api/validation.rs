//! Validating an e-mail address: asking for a token and presenting it.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, json};
use crate::{
    domain::{
        ids::{ClientSecret, Sid, Token},
        refusal::Refusal,
        threepid::Address,
    },
    http::{
        State,
        body::{Body, parsed, query, required},
        caller::{Account, Caller},
        error::ApiError,
        pages,
    },
    ops::validation::{self, TokenRequest},
    remote::mail::ValidationMail,
};

#[derive(Deserialize)]
struct RequestToken {
    client_secret: Option<String>,
    email: Option<String>,
    send_attempt: Option<Number>,
    next_link: Option<String>,
    /// Not in the specification; Sydent's clients choose the look of mails with it.
    brand: Option<String>,
}

/// A number that some clients, and every form, send as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// `POST /validate/email/requestToken`
pub async fn request_token(
    state: Data<State>,
    account: Account,
    caller: Caller,
    request: HttpRequest,
    body: Body,
) -> Answer {
    let wire: RequestToken = body.json_or_form()?;
    let secret = parsed(wire.client_secret, "client_secret", ClientSecret::parse)?;
    let send_attempt = required(wire.send_attempt, "send_attempt")?.value();
    let send_attempt =
        send_attempt.ok_or_else(|| Refusal::InvalidParam("send_attempt must be a number".to_owned()))?;
    let address = Address::email(&required(wire.email, "email")?).ok_or(Refusal::InvalidEmail)?;
    address.smtp().ok_or(Refusal::InvalidEmail)?;
    state.limits.request_token(caller, &account.0, &address, state.core.clock.now())?;

    let language = pages::preferred_language(&state, &request);
    let brand = wire.brand;
    let token_request =
        TokenRequest { account: account.0, address, secret, send_attempt, next_link: wire.next_link };
    let here = state.clone().into_inner();
    let sid = state.off_thread(async move {
        let deliver = async |message: validation::Message| {
            let link = pages::confirm_link(&here.core.config, &message.sid, &message.token, language);
            let mail = ValidationMail {
                to: message.address,
                account: message.account.as_str().to_owned(),
                link,
                token: message.token.as_str().to_owned(),
                brand,
                language,
            };
            here.mailer.send(&mail).await.map_err(|_| Refusal::EmailSendError)
        };
        validation::request_token(&here.core, token_request, deliver).await
    });
    json(json!({ "sid": sid.await?.as_str() }))
}

#[derive(Deserialize)]
struct SubmitToken {
    sid: Option<String>,
    client_secret: Option<String>,
    token: Option<String>,
}

impl SubmitToken {
    fn parse(self) -> Result<(Sid, ClientSecret, Token), ApiError> {
        Ok((
            parsed(self.sid, "sid", Sid::parse)?,
            parsed(self.client_secret, "client_secret", ClientSecret::parse)?,
            parsed(self.token, "token", Token::parse)?,
        ))
    }
}

/// `POST /validate/email/submitToken`
pub async fn submit_token(state: Data<State>, account: Account, caller: Caller, body: Body) -> Answer {
    let (sid, secret, token) = body.json_or_form::<SubmitToken>()?.parse()?;
    state.limits.submit_token(caller, &account.0, state.core.clock.now())?;
    validation::submit_token(&state.core, sid, secret, token).await?;
    json(json!({ "success": true }))
}

/// `GET /validate/email/submitToken`: for people, so the answer is a page or a redirect.
pub async fn submit_token_by_link(state: Data<State>, caller: Caller, request: HttpRequest) -> HttpResponse {
    let outcome = async {
        let (sid, secret, token) = query::<SubmitToken>(&request)?.parse()?;
        state.limits.submit_link(caller, state.core.clock.now())?;
        Ok(validation::submit_token(&state.core, sid, secret, token).await?)
    };
    let outcome = outcome.await;
    pages::submitted(&state, &request, outcome)
}

#[derive(Deserialize)]
struct Session {
    sid: Option<String>,
    client_secret: Option<String>,
}

/// `GET /3pid/getValidated3pid`
pub async fn validated_address(state: Data<State>, _account: Account, request: HttpRequest) -> Answer {
    let session: Session = query(&request)?;
    let sid = parsed(session.sid, "sid", Sid::parse)?;
    let secret = parsed(session.client_secret, "client_secret", ClientSecret::parse)?;
    let (address, at) = validation::validated_address(&state.core, &sid, &secret)?;
    json(json!({ "medium": address.medium().as_str(), "address": address.as_str(), "validated_at": at.0 }))
}
