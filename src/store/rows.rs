//! The rows as they lie on disk, and how they become domain values.
//!
//! A table says where it is defined what its rows are for. A changed row is a new schema version and a
//! migration.

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::domain::{
    code::CodeHash,
    edition::{Edition, Texts},
    ids::{RoomId, Token, UserId},
    invitation::{Described, Invitation},
    language::Language,
    lookup::PepperState,
    notice::Version,
    outbox::{Change, Notice, Outgoing, Parcel},
    secret::SecretHash,
    session::{Progress, Session},
    signing::PublicKey,
    threepid::{Address, Medium},
    time::Millis,
    visit::Stage,
};

/// A value of `sessions`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionRow {
    pub medium: Medium,
    pub address: String,
    pub index_key: [u8; 32],
    pub account: Option<String>,
    pub client_secret: SecretHash,
    pub code: Option<CodeHash>,
    pub previous_code: Option<CodeHash>,
    pub delivered_attempt: Option<u64>,
    pub next_link: Option<String>,
    pub language: Language,
    pub modified: Millis,
    pub wrong_tokens: u8,
    pub progress: Progress,
}

impl From<&Session> for SessionRow {
    fn from(session: &Session) -> Self {
        Self {
            medium: session.address.medium(),
            address: session.address.as_str().to_owned(),
            index_key: session.index_key,
            account: session.account.as_ref().map(|user| user.as_str().to_owned()),
            client_secret: session.client_secret,
            code: session.code,
            previous_code: session.previous_code,
            delivered_attempt: session.delivered_attempt,
            next_link: session.next_link.clone(),
            language: session.language,
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
            address: address(row.medium, &row.address),
            index_key: row.index_key,
            account: row.account.as_deref().map(user_id).transpose()?,
            client_secret: row.client_secret,
            code: row.code,
            previous_code: row.previous_code,
            delivered_attempt: row.delivered_attempt,
            next_link: row.next_link,
            language: row.language,
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
    pub language: Language,
}

/// A value of `tokens`.
#[derive(Debug, Serialize, Deserialize)]
pub struct TokenRow<'a> {
    pub user_id: &'a str,
    pub created: Millis,
    pub used: Millis,
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
    pub state: PepperState,
}

/// A value of `signing_keys`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SigningKeyRow {
    pub seed: crate::domain::secret::Key32,
    pub created: Millis,
}

/// A value of `invitations`.
#[derive(Debug, Serialize, Deserialize)]
pub struct InvitationRow {
    medium: Medium,
    address: String,
    room_id: String,
    sender: String,
    ephemeral_key: String,
    created: Millis,
}

impl From<&Invitation> for InvitationRow {
    fn from(invitation: &Invitation) -> Self {
        Self {
            medium: invitation.address.medium(),
            address: invitation.address.as_str().to_owned(),
            room_id: invitation.room_id.as_str().to_owned(),
            sender: invitation.sender.as_str().to_owned(),
            ephemeral_key: invitation.ephemeral_key.to_base64(),
            created: invitation.created,
        }
    }
}

impl InvitationRow {
    /// The invitation with this token.
    pub fn with_token(self, token: &str) -> Result<Invitation, StoreError> {
        let malformed = || StoreError::new("a row holds a malformed invitation");
        Ok(Invitation {
            token: Token::parse(token).ok_or_else(malformed)?,
            address: address(self.medium, &self.address),
            room_id: RoomId::parse(&self.room_id).ok_or_else(malformed)?,
            sender: user_id(&self.sender)?,
            ephemeral_key: PublicKey::from_base64(&self.ephemeral_key).ok_or_else(malformed)?,
            created: self.created,
        })
    }
}

/// A value of `outbox`.
#[derive(Debug, Serialize, Deserialize)]
pub struct OutboxRow {
    parcel: ParcelRow,
    since: Millis,
    failures: u32,
    pub due: Millis,
}

#[derive(Debug, Serialize, Deserialize)]
enum ParcelRow {
    OnBind { user_id: String },
    InvitationMail { room_name: Option<String>, inviter_name: Option<String>, is_space: bool },
    OwnerNotice { address: String, change: Change, user_id: String, language: Language },
}

impl From<&Outgoing> for OutboxRow {
    fn from(outgoing: &Outgoing) -> Self {
        let parcel = match &outgoing.parcel {
            Parcel::OnBind(user_id) => ParcelRow::OnBind { user_id: user_id.as_str().to_owned() },
            Parcel::InvitationMail(described) => {
                let Described { room_name, inviter_name, is_space } = described.clone();
                ParcelRow::InvitationMail { room_name, inviter_name, is_space }
            }
            Parcel::OwnerNotice(Notice { address, change, user_id, language }) => ParcelRow::OwnerNotice {
                address: address.as_str().to_owned(),
                change: *change,
                user_id: user_id.as_str().to_owned(),
                language: *language,
            },
        };
        Self { parcel, since: outgoing.since, failures: outgoing.failures, due: outgoing.due }
    }
}

impl TryFrom<OutboxRow> for Outgoing {
    type Error = StoreError;

    fn try_from(row: OutboxRow) -> Result<Self, StoreError> {
        let parcel = match row.parcel {
            ParcelRow::OnBind { user_id: text } => Parcel::OnBind(user_id(&text)?),
            ParcelRow::InvitationMail { room_name, inviter_name, is_space } => {
                Parcel::InvitationMail(Described { room_name, inviter_name, is_space })
            }
            ParcelRow::OwnerNotice { address: text, change, user_id: owner, language } => {
                // Only mail is sent of this kind.
                let (address, user_id) = (address(Medium::Email, &text), user_id(&owner)?);
                Parcel::OwnerNotice(Notice { address, change, user_id, language })
            }
        };
        Ok(Self { parcel, since: row.since, failures: row.failures, due: row.due })
    }
}

/// A value of `visits`.
#[derive(Debug, Serialize, Deserialize)]
pub struct VisitRow {
    pub medium: Medium,
    pub address: String,
    pub stage: Stage,
    pub until: Millis,
}

/// A value of `notices`.
#[derive(Debug, Serialize, Deserialize)]
pub struct NoticeRow {
    version: Version,
    consent: Version,
    published: Millis,
    /// As JSON, since a later program may know more facts and must still read these.
    facts: String,
    pub texts: Texts,
}

impl NoticeRow {
    /// The row of an edition.
    pub fn of(edition: &Edition, texts: &Texts) -> Result<Self, StoreError> {
        let Edition { version, consent, published, facts, .. } = edition.clone();
        let facts = serde_json::to_string(&facts).map_err(StoreError::new)?;
        Ok(Self { version, consent, published, facts, texts: texts.clone() })
    }
}

/// The edition with this number.
pub fn edition(number: u64, row: NoticeRow) -> Result<Edition, StoreError> {
    let NoticeRow { version, consent, published, facts, .. } = row;
    let facts = serde_json::from_str(&facts).map_err(StoreError::new)?;
    Ok(Edition { number, version, consent, published, facts })
}

pub fn user_id(text: &str) -> Result<UserId, StoreError> {
    UserId::parse(text).ok_or_else(|| StoreError::new("a row holds a malformed user ID"))
}

pub fn address(medium: Medium, text: &str) -> Address {
    Address::kept(medium, text)
}
