//! Pending invitations, found by their token, the invited address, the sender, and their ephemeral key.

use std::ops::Bound;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{account_number, read_token, read_user_id};
use crate::{
    domain::{
        ids::{RoomId, Token, UserId},
        invitation::Invitation,
        outbox::{Kind, OutboxKey},
        signing::PublicKey,
        threepid::{Address, Medium},
        time::Millis,
    },
    store::{
        Scan, StoreError, Tables, Writes,
        codec::{decode, encode},
        table::Transaction,
    },
};

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

impl InvitationRow {
    fn of(invitation: &Invitation) -> Self {
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

pub(in crate::store) fn read(token: &str, row: &[u8]) -> Result<Invitation, StoreError> {
    let row: InvitationRow = decode(row)?;
    let malformed = || StoreError::unreadable("malformed invitation");
    Ok(Invitation {
        token: read_token(token)?,
        address: Address::kept(row.medium, &row.address),
        room_id: RoomId::kept(&row.room_id).ok_or_else(malformed)?,
        sender: read_user_id(&row.sender)?,
        ephemeral_key: PublicKey::from_base64(&row.ephemeral_key).ok_or_else(malformed)?,
        created: row.created,
    })
}

impl<T: Transaction> Tables<T> {
    /// The pending invitation with this token.
    pub fn invitation(&self, token: &Token) -> Result<Option<Invitation>, StoreError> {
        let row = self.invitations.get(token.as_str())?;
        row.map(|row| read(token.as_str(), row.value())).transpose()
    }

    /// The tokens of the invitations to an address.
    pub fn invitations_to(&self, address: &Address) -> Result<Vec<Token>, StoreError> {
        let (medium, text) = (address.medium().number(), address.as_str());
        let mut tokens = Vec::new();
        for row in self.invited.range((medium, text, "")..)? {
            let (key, _) = row?;
            let (found_medium, found_text, token) = key.value();
            if (found_medium, found_text) != (medium, text) {
                break;
            }
            tokens.push(read_token(token)?);
        }
        Ok(tokens)
    }

    /// The invitations that an account sent.
    pub fn invitations_from(&self, sender: &UserId) -> Result<Vec<Invitation>, StoreError> {
        let number = account_number(sender);
        let mut invitations = Vec::new();
        for row in self.account_invitations.range((number, "")..)? {
            let (key, _) = row?;
            let (account, token) = key.value();
            if account != number {
                break;
            }
            let found = self.invitation(&read_token(token)?)?;
            invitations.extend(found.filter(|invitation| invitation.sender == *sender));
        }
        Ok(invitations)
    }

    /// The token of the invitation that a key belongs to.
    pub fn invitation_by_key(&self, key: &PublicKey) -> Result<Option<Token>, StoreError> {
        let row = self.ephemeral_keys.get(key.as_bytes())?;
        row.map(|row| read_token(decode(row.value())?)).transpose()
    }
}

impl Scan<'_> {
    /// At most `limit` invitations after `after`, in the order of their tokens.
    pub fn invitations_after(
        &self,
        after: Option<&Token>,
        limit: usize,
    ) -> Result<Vec<Invitation>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |token| Bound::Excluded(token.as_str()));
        let rows = self.invitations.range::<&str>((from, Bound::Unbounded))?.take(limit);
        rows.map(|row| {
            let (token, row) = row?;
            read(token.value(), row.value())
        })
        .collect()
    }
}

impl Writes<'_> {
    /// Stores a new invitation.
    pub fn put_invitation(&mut self, invitation: &Invitation) -> Result<(), StoreError> {
        let (token, address) = (invitation.token.as_str(), &invitation.address);
        let row = encode(&InvitationRow::of(invitation))?;
        self.tables.invitations.insert(token, row.as_slice())?;
        self.tables.invited.insert((address.medium().number(), address.as_str(), token), ())?;
        self.tables.account_invitations.insert((account_number(&invitation.sender), token), ())?;
        let row = encode(&token)?;
        self.tables.ephemeral_keys.insert(invitation.ephemeral_key.as_bytes(), row.as_slice())?;
        Ok(())
    }

    /// Removes an invitation and its queued messages. Returns whether there was one.
    pub fn remove_invitation(&mut self, token: &Token) -> Result<bool, StoreError> {
        let Some(Invitation { address, sender, ephemeral_key, .. }) = self.invitation(token)? else {
            return Ok(false);
        };
        self.tables.invitations.remove(token.as_str())?;
        self.tables.invited.remove((address.medium().number(), address.as_str(), token.as_str()))?;
        self.tables.account_invitations.remove((account_number(&sender), token.as_str()))?;
        self.tables.ephemeral_keys.remove(ephemeral_key.as_bytes())?;
        for kind in Kind::OF_INVITATION {
            self.remove_outgoing(&OutboxKey { kind, token: token.clone() })?;
        }
        Ok(true)
    }
}
