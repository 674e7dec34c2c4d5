//! Everything that the server may refuse, as values.
//!
//! Which HTTP status and error code a refusal becomes is decided in one place, `http/error.rs`.

use std::time::Duration;

use super::ids::UserId;

/// Why a request was refused. Nothing has changed when one of these comes back, except that a
/// wrong token was counted, or that a session waits for a mail that could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no access token.
    #[error("This needs an access token: send it as an Authorization header, 'Bearer <token>'")]
    MissingToken,
    /// The access token is unknown, logged out, or malformed.
    #[error("This access token is not known here; register for a new one")]
    UnknownToken,
    /// The access token to log out is not logged in.
    #[error("This access token is not logged in")]
    NotLoggedIn,
    /// The account has not accepted the terms.
    #[error("Please accept the terms of service first: see GET /_matrix/identity/v2/terms")]
    TermsNotSigned,
    /// The homeserver does not confirm the OpenID token.
    #[error("The homeserver did not confirm this OpenID token")]
    OpenIdTokenRefused,
    /// The homeserver could not be asked. Says no more: the caller must not learn about networks.
    #[error("The homeserver {0} could not be reached; try again later")]
    HomeserverUnreachable(String),
    /// The operator's allow list does not have this homeserver.
    #[error("This identity server does not serve users of that homeserver")]
    HomeserverNotAllowed,
    /// A parameter has a value that it cannot have.
    #[error("{0}")]
    InvalidParam(String),
    /// A required parameter is not there.
    #[error("The parameter '{0}' is missing")]
    MissingParam(&'static str),
    /// The e-mail address is none.
    #[error("This is not an e-mail address that mail can be sent to")]
    InvalidEmail,
    /// The relay did not take the mail.
    #[error("The mail could not be sent; try again later")]
    EmailSendError,
    /// The telephone number is none.
    #[error("This is not a telephone number in the country that was given")]
    InvalidPhoneNumber,
    /// No message goes to that country.
    #[error("This identity server sends no messages to that country")]
    DestinationRejected,
    /// The gateway did not take the message.
    #[error("The message could not be sent; try again later")]
    SmsSendError,
    /// No session has this sid and client secret.
    #[error("No validation session matches this sid and client_secret")]
    NoValidSession,
    /// The session is too old, has seen too many wrong tokens, or was withdrawn.
    #[error("This validation session is over; request a new token")]
    SessionExpired,
    /// The token has not come back yet.
    #[error("This validation session has not been completed: follow the link that was sent")]
    SessionNotValidated,
    /// The wrong token was presented.
    #[error("This token is not the one that was sent")]
    TokenIncorrect,
    /// The pepper is not the current one.
    #[error("The pepper is not the current one; ask GET /hash_details again")]
    InvalidPepper {
        /// The algorithm that the caller used.
        algorithm: &'static str,
        /// The pepper to use.
        lookup_pepper: String,
    },
    /// The address that is invited leads to a Matrix ID already.
    #[error("This address already belongs to a Matrix ID; invite that one")]
    ThreepidInUse {
        /// The Matrix ID.
        user_id: UserId,
    },
    /// Only e-mail addresses can be invited.
    #[error("Only e-mail addresses can be invited")]
    UnsupportedMedium,
    /// There is no such invitation, or none any more.
    #[error("No invitation has this token; it was used, cancelled, or is too old")]
    UnknownInvitation,
    /// A homeserver signed this for another server.
    #[error("This request was signed for another server")]
    WrongDestination,
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// What was asked for is not here.
    #[error("{0}")]
    NotFound(&'static str),
    /// Too many requests.
    #[error("Too many requests; wait a little")]
    LimitExceeded {
        /// How long to wait.
        retry_after: Duration,
    },
}
