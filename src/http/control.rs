//! The operator's Unix socket: the commands of `cli` on a running server. Whoever may open the file
//! is the operator; it lies in the data directory, which is closed to everybody else (design, P19).

pub mod people;
pub mod retention;
pub mod suppression;
pub mod terms;

use std::{os::unix::net::UnixListener, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    web::{self, Data, Json},
};
use serde::{Deserialize, Serialize};

use super::{State, body::Body, error::ApiError};
use crate::{
    domain::{
        audit::By,
        ids::{Token, UserId},
        refusal::Refusal,
        threepid::Address,
    },
    ops::{
        invitation::cancel::{self, Which},
        lookup::pepper::{self, Rotated},
    },
};

/// The path of [`CancelInvitations`].
pub const CANCEL_INVITATIONS: &str = "/invitations/cancel";

/// The path of a command that replaces the pepper and answers with a [`Rotated`].
pub const ROTATE_PEPPER: &str = "/pepper/rotate";

/// Starts to answer on `listener`.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve(state: Data<State>, listener: UnixListener) -> std::io::Result<Server> {
    let app = move || {
        let unknown = || async { HttpResponse::NotFound().finish() };
        App::new()
            .app_data(state.clone())
            .route(CANCEL_INVITATIONS, web::post().to(cancel_invitations))
            .route(people::EXPORT, web::post().to(people::export))
            .route(people::ERASE, web::post().to(people::erase))
            .route(people::AUDIT, web::post().to(people::audit))
            .route(retention::STATUS, web::post().to(retention::status))
            .route(retention::RUN, web::post().to(retention::run))
            .route(ROTATE_PEPPER, web::post().to(rotate_pepper))
            .route(terms::PLAN, web::post().to(terms::plan))
            .route(suppression::CHECK, web::post().to(suppression::check))
            .route(suppression::LIFT, web::post().to(suppression::lift))
            .default_service(web::to(unknown))
    };
    // A server that is to stop does not wait for a command that takes long.
    let server = HttpServer::new(app).workers(1).max_connections(16).disable_signals().shutdown_timeout(5);
    Ok(server.client_request_timeout(Duration::from_secs(10)).listen_uds(listener)?.run())
}

/// What is wrong with a text that should be a Matrix ID, after "this is".
pub const NOT_AN_ACCOUNT: &str = "not a Matrix ID; write it whole, like @alice:example.org";

/// The account that an operator has typed; what is wrong with it, in words.
fn typed_account(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| format!("this is {NOT_AN_ACCOUNT}"))
}

/// The address that an operator has typed; what is wrong with it, in words.
fn typed_address(text: &str) -> Result<Address, String> {
    Address::typed(text).ok_or_else(|| {
        "this is neither an e-mail address nor a telephone number with its country code, like +44 20 7946 0018"
            .to_owned()
    })
}

/// Which invitations to take back; one of the three.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum CancelInvitations {
    /// The one with this token.
    Token(String),
    /// All to this address.
    Address(String),
    /// All from this Matrix ID.
    Sender(String),
}

impl CancelInvitations {
    /// What is meant.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(&self) -> Result<Which, String> {
        let not = |problem: &str| problem.to_owned();
        match self {
            Self::Token(text) => {
                Token::parse(text).map(Which::Token).ok_or_else(|| not("this is not a token"))
            }
            Self::Address(text) => {
                Address::email(text).map(Which::To).ok_or_else(|| not("this is not an e-mail address"))
            }
            Self::Sender(text) => typed_account(text).map(Which::From),
        }
    }
}

/// The answer to [`CancelInvitations`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Cancelled {
    /// How many there were.
    pub cancelled: usize,
}

async fn cancel_invitations(state: Data<State>, body: Body) -> Result<HttpResponse, ApiError> {
    let which = body.json::<CancelInvitations>()?.parse().map_err(Refusal::InvalidParam)?;
    let cancelled = cancel::cancel(&state.core, which).await?;
    Ok(HttpResponse::Ok().json(Cancelled { cancelled }))
}

async fn rotate_pepper(state: Data<State>) -> Result<Json<Rotated>, ApiError> {
    let core = state.core.clone();
    // It goes on when whoever asked does not wait.
    Ok(Json(state.off_thread(async move { pepper::rotate(&core, By::Operator).await }).await?))
}
