//! The rows as they lie on disk, and how they become domain values.
//!
//! A table says where it is defined what its rows are for. A changed row is a new schema version and a
//! migration.

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::domain::{
    ids::UserId,
    secret::SecretHash,
    session::{Progress, Session},
    threepid::{Address, Medium},
    time::Millis,
};

/// A value of `sessions`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionRow {
    medium: Medium,
    address: String,
    account: Option<String>,
    client_secret: SecretHash,
    delivered_attempt: Option<u64>,
    next_link: Option<String>,
    modified: Millis,
    wrong_tokens: u8,
    progress: Progress,
}

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> Self {
        Self {
            medium: session.address.medium(),
            address: session.address.as_str().to_owned(),
            account: session.account.as_ref().map(|user| user.as_str().to_owned()),
            client_secret: session.client_secret,
            delivered_attempt: session.delivered_attempt,
            next_link: session.next_link.clone(),
            modified: session.modified,
            wrong_tokens: session.wrong_tokens,
            progress: session.progress,
        }
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = StoreError;

    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        Ok(Self {
            address: address(row.medium, &row.address)?,
            account: row.account.as_deref().map(user_id).transpose()?,
            client_secret: row.client_secret,
            delivered_attempt: row.delivered_attempt,
            next_link: row.next_link,
            modified: row.modified,
            wrong_tokens: row.wrong_tokens,
            progress: row.progress,
        })
    }
}

/// A value of `associations`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct AssociationRow {
    pub user_id: String,
    pub ts: u64,
}

/// A value of `tokens`.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenRow<'a> {
    pub user_id: &'a str,
    pub created: Millis,
}

/// A value of `consents`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConsentRow<'a> {
    pub version: &'a str,
    pub accepted: Millis,
}

/// A value of `peppers`.
#[derive(Debug, Serialize, Deserialize)]
pub struct PepperRow {
    pub text: String,
    pub created: Millis,
}

/// A value of `signing_keys`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SigningKeyRow {
    pub seed: crate::domain::secret::Key32,
    pub created: Millis,
}

pub fn user_id(text: &str) -> Result<UserId, StoreError> {
    UserId::parse(text).ok_or_else(|| StoreError::new("a row holds a malformed user ID"))
}

fn address(medium: Medium, text: &str) -> Result<Address, StoreError> {
    Address::parse(medium, text).ok_or_else(|| StoreError::new("a row holds a malformed address"))
}
