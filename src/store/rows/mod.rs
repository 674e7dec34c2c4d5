//! The rows of the tables: one file for each kind, with its row type, and how it is read and written.
//!
//! A method that writes keeps the index tables of its rows consistent, so no caller can forget one. A changed
//! row type needs a new schema and a migration.

pub mod association;
pub mod audit;
pub mod budget;
pub mod consent;
pub mod daily_count;
pub mod edition;
pub mod fact;
pub mod invitation;
pub mod outbox;
pub mod pepper;
pub mod session;
pub mod signing_key;
pub mod suppression;
pub mod token;
pub mod visit;

use super::StoreError;
use crate::domain::{
    ids::{Token, UserId},
    secret::sha256,
    threepid::Medium,
};

/// A short number for an account in keys. Two accounts may share one, so compare the account in the row that it
/// leads to.
pub(super) fn account_number(user: &UserId) -> u64 {
    let hash = sha256(user.as_str().as_bytes());
    u64::from_be_bytes(hash[..8].try_into().expect("32 bytes have 8"))
}

pub(super) fn read_user_id(text: &str) -> Result<UserId, StoreError> {
    UserId::kept(text).ok_or_else(|| StoreError::unreadable("malformed Matrix ID"))
}

pub(super) fn read_token(text: &str) -> Result<Token, StoreError> {
    Token::parse(text).ok_or_else(|| StoreError::unreadable("malformed token"))
}

pub(super) fn read_medium(number: u8) -> Result<Medium, StoreError> {
    Medium::from_number(number).ok_or_else(|| StoreError::unreadable("unknown medium"))
}
