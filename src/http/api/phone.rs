//! Starts the validation of a phone number: sends a message with a code.
//!
//! `validation` handles the submitted code, like the token of a mail.

use actix_web::{HttpRequest, web::Data};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, json, validation::Number};
use crate::{
    domain::{ids::ClientSecret, phone::PhoneNumber, refusal::Refusal},
    http::{
        State,
        body::{Body, parsed, required},
        caller::{Account, Caller},
        pages,
    },
    ops::{
        account::tokens::Authenticated,
        address::validate::{self, Delivery, TokenRequest},
    },
    remote::sms::ValidationSms,
};

#[derive(Deserialize)]
struct RequestToken {
    client_secret: Option<String>,
    country: Option<String>,
    phone_number: Option<String>,
    send_attempt: Option<Number>,
    next_link: Option<String>,
}

/// `POST /validate/msisdn/requestToken`
pub async fn request_token(
    state: Data<State>,
    account: Account,
    caller: Caller,
    request: HttpRequest,
    body: Body,
) -> Answer {
    send_code(&state, Some(account.0), caller, &request, &body).await
}

/// Sends a code for an account, or for a homeserver that asks for a person without an account.
pub(super) async fn send_code(
    state: &Data<State>,
    account: Option<Authenticated>,
    caller: Caller,
    request: &HttpRequest,
    body: &Body,
) -> Answer {
    let wire: RequestToken = body.json_or_form()?;
    let secret = parsed(wire.client_secret, "client_secret", ClientSecret::parse)?;
    let send_attempt = Number::attempt(wire.send_attempt)?;
    let country = required(wire.country, "country")?;
    let number = required(wire.phone_number, "phone_number")?;
    let number = PhoneNumber::parse(&number, &country).ok_or(Refusal::InvalidPhoneNumber)?;
    if !state.sms.may_write_to(&number) {
        return Err(Refusal::DestinationRejected.into());
    }
    state.core.limits.ask_for_sms(
        caller.network(),
        account.as_ref().map(Authenticated::user_id),
        state.core.clock.now(),
    )?;
    let (answer, network) = (number.clone(), caller.network());
    let user_id = account.as_ref().map(|account| account.user_id().clone());
    let language = pages::preferred_language(state, request);
    let (address, next_link) = (number.address().clone(), wire.next_link);
    let token_request = TokenRequest { account, address, secret, send_attempt, next_link, language };
    let here = state.clone().into_inner();
    let sid = state.off_thread(async move {
        let admit = || here.core.limits.send_sms(&number, here.core.clock.now());
        let deliver = async |delivery| {
            let sent = match delivery {
                Delivery::Real(message) => {
                    let sms = ValidationSms {
                        to: &number,
                        code: &message.token,
                        language,
                        account: user_id.as_ref(),
                        network,
                    };
                    here.sms.send_code(&sms).await
                }
                Delivery::Rehearsal(_) => here.sms.rehearse_code().await,
            };
            sent.map_err(|_| Refusal::SmsSendError)
        };
        validate::request_token(&here.core, token_request, admit, deliver).await
    });
    let sid = sid.await?;
    // Clients show the parsed number; the specification requires only the sid.
    json(json!({
        "sid": sid.as_str(),
        "msisdn": answer.address().as_str(),
        "intl_fmt": answer.international(),
        "success": true,
    }))
}
