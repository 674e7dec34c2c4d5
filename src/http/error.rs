//! Maps every refusal to an HTTP status and a Matrix error code, in one exhaustive table.
//!
//! Bindery logs internal errors and hides their cause from the caller.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde_json::{Value, json};

use crate::{
    domain::{refusal::Refusal, time::as_millis},
    ops::Failure,
};

/// Why a request failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// An operation refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The body is not JSON.
    #[error("The request body is not valid JSON")]
    NotJson,
    /// The body is too large.
    #[error("The request body is too large")]
    TooLarge,
    /// The body is incomplete, or its chunks are malformed (RFC 9112 sections 7.1 and 8).
    #[error("The request body is incomplete or malformed")]
    BodyMalformed,
    /// The body did not arrive in time.
    #[error("The request body did not arrive in time; try again")]
    BodyTooSlow,
    /// There is no such path.
    #[error("There is nothing at this path")]
    UnknownPath,
    /// The path exists, but not for this method.
    #[error("This path does not support that method")]
    WrongMethod,
    /// An internal error, such as a failing database.
    #[error("This server has an internal error; its operator finds the cause in the log")]
    Internal,
    /// The same for a command of the operator, with the cause.
    #[error(
        "the command failed: {0}; if that does not help, read the lines before it in the log of the server"
    )]
    CommandFailed(String),
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Store(error) => {
                tracing::error!(%error, "the database failed");
                Self::Internal
            }
            Failure::Logs(error) => {
                tracing::error!(%error, "cannot read or write a log file");
                Self::Internal
            }
        }
    }
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Refused(refusal) => refusal_status_and_code(refusal),
            Self::NotJson => (StatusCode::BAD_REQUEST, "M_NOT_JSON"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            Self::BodyMalformed => (StatusCode::BAD_REQUEST, "M_UNKNOWN"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN"),
            Self::UnknownPath => (StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED"),
            Self::Internal | Self::CommandFailed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN"),
        }
    }
}

fn refusal_status_and_code(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::MissingToken | Refusal::UnknownToken => (StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED"),
        Refusal::NotLoggedIn => (StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN"),
        Refusal::TermsNotSigned => (StatusCode::FORBIDDEN, "M_TERMS_NOT_SIGNED"),
        Refusal::OpenIdTokenRefused => (StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED"),
        Refusal::HomeserverUnreachable(_) => (StatusCode::BAD_GATEWAY, "M_UNKNOWN"),
        Refusal::HomeserverNotAllowed => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        Refusal::InvalidParam(_) => (StatusCode::BAD_REQUEST, "M_INVALID_PARAM"),
        Refusal::MissingParam(_) => (StatusCode::BAD_REQUEST, "M_MISSING_PARAMS"),
        Refusal::InvalidEmail => (StatusCode::BAD_REQUEST, "M_INVALID_EMAIL"),
        Refusal::EmailSendError => (StatusCode::BAD_REQUEST, "M_EMAIL_SEND_ERROR"),
        Refusal::InvalidPhoneNumber => (StatusCode::BAD_REQUEST, "M_INVALID_ADDRESS"),
        Refusal::DestinationRejected => (StatusCode::BAD_REQUEST, "M_DESTINATION_REJECTED"),
        Refusal::SmsSendError => (StatusCode::BAD_REQUEST, "M_SEND_ERROR"),
        Refusal::NoValidSession => (StatusCode::NOT_FOUND, "M_NO_VALID_SESSION"),
        Refusal::SessionExpired => (StatusCode::BAD_REQUEST, "M_SESSION_EXPIRED"),
        Refusal::SessionNotValidated => (StatusCode::BAD_REQUEST, "M_SESSION_NOT_VALIDATED"),
        Refusal::TokenIncorrect => (StatusCode::BAD_REQUEST, "M_TOKEN_INCORRECT"),
        Refusal::InvalidPepper { .. } => (StatusCode::BAD_REQUEST, "M_INVALID_PEPPER"),
        Refusal::ThreepidInUse { .. } => (StatusCode::BAD_REQUEST, "M_THREEPID_IN_USE"),
        Refusal::UnsupportedMedium => (StatusCode::BAD_REQUEST, "M_UNRECOGNIZED"),
        Refusal::UnknownInvitation => (StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
        Refusal::WrongDestination => (StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED"),
        Refusal::Forbidden(_) => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        Refusal::NotFound(_) => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
        Refusal::LimitExceeded { .. } => (StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED"),
    }
}

/// Adds the members that some errors have beside `errcode` and `error`.
fn extra_members(error: &ApiError, body: &mut serde_json::Map<String, Value>) {
    match error {
        ApiError::Refused(Refusal::InvalidPepper { algorithm, lookup_pepper }) => {
            body.insert("algorithm".to_owned(), json!(algorithm));
            body.insert("lookup_pepper".to_owned(), json!(lookup_pepper));
        }
        ApiError::Refused(Refusal::ThreepidInUse { user_id }) => {
            body.insert("mxid".to_owned(), json!(user_id.as_str()));
        }
        ApiError::Refused(Refusal::LimitExceeded { retry_after }) => {
            body.insert("retry_after_ms".to_owned(), json!(as_millis(*retry_after).max(1)));
        }
        _ => {}
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = self.status_and_code();
        let mut body = serde_json::Map::new();
        body.insert("errcode".to_owned(), json!(code));
        body.insert("error".to_owned(), json!(self.to_string()));
        extra_members(self, &mut body);
        let mut response = HttpResponse::build(status);
        if let Self::Refused(Refusal::LimitExceeded { retry_after }) = self {
            response.insert_header((header::RETRY_AFTER, retry_after.as_secs() + 1));
        }
        response.json(body)
    }
}
