//! Validates an address: sends the mail, and checks the token of a mail or the code of a message.
//!
//! `phone` sends the messages to phones.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, json};
use crate::{
    domain::{
        ids::{ClientSecret, Sid, Token},
        refusal::Refusal,
        threepid::{Address, Medium},
    },
    http::{
        State,
        body::{Body, parsed, query, required},
        caller::{Account, Caller},
        error::ApiError,
        pages,
    },
    ops::address::{
        suppression,
        validate::{self, Delivery, Message, TokenRequest, User, Validated},
    },
    remote::mail::ValidationMail,
};

#[derive(Deserialize)]
struct RequestToken {
    client_secret: Option<String>,
    email: Option<String>,
    send_attempt: Option<Number>,
    next_link: Option<String>,
    /// Not in the specification; Sydent's clients choose the mail template with it.
    brand: Option<String>,
}

/// A number. Forms and some clients send it as a string.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Number {
    Number(u64),
    Text(String),
}

impl Number {
    /// The value of the parameter `send_attempt`.
    pub fn attempt(given: Option<Self>) -> Result<u64, ApiError> {
        let value = match required(given, "send_attempt")? {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
        };
        value.ok_or_else(|| Refusal::InvalidParam("send_attempt must be a number".to_owned()).into())
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
    let send_attempt = Number::attempt(wire.send_attempt)?;
    let address = Address::email(&required(wire.email, "email")?).ok_or(Refusal::InvalidEmail)?;
    address.smtp().ok_or(Refusal::InvalidEmail)?;
    state.core.limits.request_token(
        caller.network(),
        account.0.user_id(),
        &address,
        state.core.clock.now(),
    )?;

    let language = pages::preferred_language(&state, &request);
    let brand = wire.brand;
    let asked_by = account.0.user_id().clone();
    let (account, next_link) = (Some(account.0), wire.next_link);
    let token_request = TokenRequest { account, address, secret, send_attempt, next_link, language };
    let here = state.clone().into_inner();
    let sid = state.off_thread(async move {
        let deliver = async |delivery| {
            let mail = |message: Message| ValidationMail {
                stop: suppression::stop_link(&here.core, &message.address),
                link: pages::confirm_link(&here.core.config, &message.sid, &message.token),
                to: message.address,
                account: asked_by,
                token: message.token.as_str().to_owned(),
                brand,
                language,
            };
            let sent = match delivery {
                Delivery::Real(message) => here.mailer.send_validation(&mail(message)).await,
                Delivery::Rehearsal(message) => here.mailer.rehearse_validation(&mail(message)).await,
            };
            sent.map_err(|_| Refusal::EmailSendError)
        };
        validate::request_token(&here.core, token_request, || Ok(()), deliver).await
    });
    json(json!({ "sid": sid.await?.as_str() }))
}

/// `POST /validate/{email,msisdn}/submitToken`
pub async fn submit_token(
    state: Data<State>,
    account: Account,
    caller: Caller,
    medium: Path<String>,
    body: Body,
) -> Answer {
    let presented = body.json_or_form::<SubmitToken>()?.parse(medium_of(&medium)?)?;
    state.core.limits.submit_token(caller.network(), account.0.user_id(), state.core.clock.now())?;
    presented.submit(&state, User::Account).await?;
    json(json!({ "success": true }))
}

/// `GET /validate/{email,msisdn}/submitToken`: people open it in a browser, so the answer is a page or a
/// redirect.
pub async fn submit_token_by_link(
    state: Data<State>,
    caller: Caller,
    medium: Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    let outcome = async {
        let presented = query::<SubmitToken>(&request)?.parse(medium_of(&medium)?)?;
        state.core.limits.submit_link(caller.network(), state.core.clock.now())?;
        presented.submit(&state, User::Account).await
    };
    let outcome = outcome.await;
    // No links to other languages: each of them would submit the token again.
    pages::submitted(&state, &request, Value::Null, None, outcome)
}

/// The medium in the path.
fn medium_of(path: &str) -> Result<Medium, ApiError> {
    Ok(Medium::parse(path).ok_or(Refusal::UnsupportedMedium)?)
}

#[derive(Deserialize)]
pub(super) struct SubmitToken {
    sid: Option<String>,
    client_secret: Option<String>,
    token: Option<String>,
}

impl SubmitToken {
    /// `medium` is the one of the endpoint. A session of another medium is unknown there.
    pub fn parse(self, medium: Medium) -> Result<Presented, ApiError> {
        Ok(Presented {
            medium,
            sid: parsed(self.sid, "sid", Sid::parse)?,
            secret: parsed(self.client_secret, "client_secret", ClientSecret::parse)?,
            token: parsed(self.token, "token", |text| Token::parse(&as_mailed(text)))?,
        })
    }
}

/// A token as people paste it: in groups with spaces, or out of a mail that nobody decoded, where `=` begins the
/// code of a character and the end of a line, and `=3D` is itself one. No token has that sign.
fn as_mailed(text: &str) -> String {
    let whole = text.replace("=\r\n", "").replace("=\n", "");
    let word: String = whole.split_whitespace().collect();
    word.replace("=3D", "").replace('=', "")
}

/// A token submitted to a session.
pub(super) struct Presented {
    medium: Medium,
    sid: Sid,
    secret: ClientSecret,
    token: Token,
}

impl Presented {
    /// Submits the token on the background runtime, so that the try counts even if the caller disconnects.
    pub async fn submit(self, state: &State, user: User) -> Result<Validated, ApiError> {
        let core = state.core.clone();
        let Self { medium, sid, secret, token } = self;
        let submitted = async move { validate::submit_token(&core, user, medium, sid, secret, token).await };
        state.off_thread(submitted).await
    }
}

/// `GET /3pid/getValidated3pid`
pub async fn validated_address(state: Data<State>, _account: Account, request: HttpRequest) -> Answer {
    validated(&state, User::Account, &request)
}

/// The answer with the validated address of a session of this user.
pub(super) fn validated(state: &State, user: User, request: &HttpRequest) -> Answer {
    #[derive(Deserialize)]
    struct Session {
        sid: Option<String>,
        client_secret: Option<String>,
    }
    let session: Session = query(request)?;
    let sid = parsed(session.sid, "sid", Sid::parse)?;
    let secret = parsed(session.client_secret, "client_secret", ClientSecret::parse)?;
    let (address, at) = validate::validated_address(&state.core, user, &sid, &secret)?;
    json(json!({ "medium": address.medium().as_str(), "address": address.as_str(), "validated_at": at.0 }))
}
