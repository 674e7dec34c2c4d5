//! `bindery invitations cancel`: removes pending invitations with everything that belongs to them.

use serde::{Deserialize, Serialize};

use super::{
    Command,
    input::{self, Email},
};
use crate::{
    domain::ids::{Token, UserId},
    ops::{
        Core, Failure,
        invitation::cancel::{self, Which},
    },
};

/// Cancels the invitations that match.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum CancelInvitations {
    /// The one with this token.
    #[serde(with = "input")]
    Token(Token),
    /// All to this email address.
    #[serde(with = "input")]
    Address(Email),
    /// All that this account sent.
    #[serde(with = "input")]
    Sender(UserId),
}

/// The answer to [`CancelInvitations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// The number of invitations.
    pub cancelled: usize,
}

impl Command for CancelInvitations {
    const PATH: &'static str = "/invitations/cancel";

    type Answer = Cancelled;

    async fn run(self, core: &Core) -> Result<Cancelled, Failure> {
        let which = match self {
            Self::Token(token) => Which::Token(token),
            Self::Address(Email(address)) => Which::To(address),
            Self::Sender(user) => Which::From(user),
        };
        Ok(Cancelled { cancelled: cancel::cancel(core, which).await? })
    }
}
