//! Every reason for which Bindery refuses a request, as values.
//!
//! `http/error.rs` maps each of them to an HTTP status and an error code.

use std::time::Duration;

use super::ids::UserId;

/// Why Bindery refused a request.
///
/// A refused request changes nothing, with two exceptions: a wrong token is counted, and a session stays when
/// its mail or message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request has no access token.
    #[error("This needs an access token: send it as an Authorization header, 'Bearer <token>'")]
    MissingToken,
    /// The access token is unknown, logged out, or malformed.
    #[error("This identity server does not know this access token; register for a new one")]
    UnknownToken,
    /// The account wants to log out a token that is not logged in.
    #[error("This access token is not logged in")]
    NotLoggedIn,
    /// The account has not accepted the terms.
    #[error("Please accept the terms of service first: see GET /_matrix/identity/v2/terms")]
    TermsNotSigned,
    /// The homeserver did not confirm the OpenID token.
    #[error("The homeserver did not confirm this OpenID token")]
    OpenIdTokenRefused,
    /// Bindery could not reach the homeserver. The message gives no cause, because a caller must not be able to
    /// probe networks.
    #[error("The homeserver {0} could not be reached; try again later")]
    HomeserverUnreachable(String),
    /// This homeserver is not on the operator's allow list.
    #[error("This identity server does not serve users of that homeserver")]
    HomeserverNotAllowed,
    /// A parameter has an invalid value.
    #[error("{0}")]
    InvalidParam(String),
    /// A required parameter is missing.
    #[error("The parameter '{0}' is missing")]
    MissingParam(&'static str),
    /// The email address is invalid.
    #[error("This is not an email address that mail can be sent to")]
    InvalidEmail,
    /// The relay did not accept the mail.
    #[error("The mail could not be sent; try again later")]
    EmailSendError,
    /// The phone number is invalid.
    #[error("This is not a phone number in the given country")]
    InvalidPhoneNumber,
    /// The operator does not allow messages to that country.
    #[error("This identity server sends no messages to that country")]
    DestinationRejected,
    /// The gateway did not accept the message.
    #[error("The message could not be sent; try again later")]
    SmsSendError,
    /// No session has this sid and client secret.
    #[error("No validation session matches this sid and client_secret")]
    NoValidSession,
    /// The session is too old, has had too many wrong tokens, or the owner of the address has withdrawn it.
    #[error("This validation session has expired; request a new token")]
    SessionExpired,
    /// The owner of the address has not completed the validation yet.
    #[error("This validation session has not been completed; follow the link in the mail, or enter the code")]
    SessionNotValidated,
    /// The submitted token is wrong.
    #[error("This is not the token that was sent")]
    TokenIncorrect,
    /// The pepper of a lookup is neither the current one nor in its grace period.
    #[error("This is not the current pepper; fetch it again with GET /hash_details")]
    InvalidPepper {
        /// The algorithm that the caller used.
        algorithm: &'static str,
        /// The pepper to use.
        lookup_pepper: String,
    },
    /// The invited address is already bound to a Matrix ID.
    #[error("This address is already bound to a Matrix ID; invite that one")]
    ThreepidInUse {
        /// The Matrix ID.
        user_id: UserId,
    },
    /// Only email addresses can be invited.
    #[error("Only email addresses can be invited")]
    UnsupportedMedium,
    /// There is no such invitation, or it was used, cancelled or has expired.
    #[error("No invitation has this token; perhaps it was used or cancelled, or it has expired")]
    UnknownInvitation,
    /// The homeserver signed this request for another server.
    #[error("This request was signed for another server")]
    WrongDestination,
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Bindery does not have what the caller asked for.
    #[error("{0}")]
    NotFound(&'static str),
    /// A rate limit or a lookup budget is used up.
    #[error("Too many requests; wait a little")]
    LimitExceeded {
        /// How long to wait.
        retry_after: Duration,
    },
}
