//! Pending invitations, found by their token, by the address that is invited, and by their key.

use std::ops::Bound;

use redb::ReadableTable;

use super::{
    StoreError, Tables, Transaction, Writes,
    codec::{decode, encode},
    rows::InvitationRow,
};
use crate::domain::{
    ids::Token,
    invitation::Invitation,
    outbox::{Kind, OutboxKey},
    signing::PublicKey,
    threepid::Address,
};

impl<T: Transaction> Tables<T> {
    /// A pending invitation.
    pub fn invitation(&self, token: &Token) -> Result<Option<Invitation>, StoreError> {
        let row = self.invitations.get(token.as_str()).map_err(StoreError::new)?;
        row.map(|row| read(token.as_str(), row.value())).transpose()
    }

    /// The tokens of the invitations to an address.
    pub fn invitations_to(&self, address: &Address) -> Result<Vec<Token>, StoreError> {
        let (medium, text) = (address.medium().number(), address.as_str());
        // No token is empty, so nothing comes before.
        let rows = self.invited.range((medium, text, "")..).map_err(StoreError::new)?;
        let mut tokens = Vec::new();
        for row in rows {
            let (key, _) = row.map_err(StoreError::new)?;
            let (found_medium, found_text, token) = key.value();
            if (found_medium, found_text) != (medium, text) {
                break;
            }
            tokens.push(parse_token(token)?);
        }
        Ok(tokens)
    }

    /// The token of the invitation that this key belongs to.
    pub fn invitation_by_key(&self, key: &PublicKey) -> Result<Option<Token>, StoreError> {
        let row = self.ephemeral_keys.get(key.as_bytes()).map_err(StoreError::new)?;
        row.map(|row| parse_token(decode(row.value())?)).transpose()
    }

    /// At most `most` invitations, those after `after` in the order of their tokens.
    pub fn invitations_after(
        &self,
        after: Option<&Token>,
        most: usize,
    ) -> Result<Vec<Invitation>, StoreError> {
        let from = after.map_or(Bound::Unbounded, |token| Bound::Excluded(token.as_str()));
        let rows = self.invitations.range::<&str>((from, Bound::Unbounded)).map_err(StoreError::new)?;
        rows.take(most)
            .map(|row| {
                let (token, row) = row.map_err(StoreError::new)?;
                read(token.value(), row.value())
            })
            .collect()
    }
}

/// An invitation as it is stored.
pub(super) fn read(token: &str, row: &[u8]) -> Result<Invitation, StoreError> {
    decode::<InvitationRow>(row)?.with_token(token)
}

impl Writes<'_> {
    /// Stores a new invitation.
    pub fn put_invitation(&mut self, invitation: &Invitation) -> Result<(), StoreError> {
        self.written += 1;
        let (token, address) = (invitation.token.as_str(), &invitation.address);
        let row = encode(&InvitationRow::from(invitation))?;
        self.tables.invitations.insert(token, row.as_slice()).map_err(StoreError::new)?;
        let key = (address.medium().number(), address.as_str(), token);
        self.tables.invited.insert(key, ()).map_err(StoreError::new)?;
        let key = invitation.ephemeral_key.as_bytes();
        self.tables.ephemeral_keys.insert(key, encode(&token)?.as_slice()).map_err(StoreError::new)?;
        Ok(())
    }

    /// Forgets an invitation and what was to be sent for it.
    pub fn remove_invitation(&mut self, token: &Token) -> Result<(), StoreError> {
        let Some(invitation) = self.invitation(token)? else { return Ok(()) };
        self.written += 1;
        self.removed = true;
        let address = &invitation.address;
        self.tables.invitations.remove(token.as_str()).map_err(StoreError::new)?;
        let key = (address.medium().number(), address.as_str(), token.as_str());
        self.tables.invited.remove(key).map_err(StoreError::new)?;
        self.tables.ephemeral_keys.remove(invitation.ephemeral_key.as_bytes()).map_err(StoreError::new)?;
        for kind in Kind::OF_INVITATION {
            self.remove_outgoing(&OutboxKey { kind, token: token.clone() })?;
        }
        Ok(())
    }
}

pub(super) fn parse_token(text: &str) -> Result<Token, StoreError> {
    Token::parse(text).ok_or_else(|| StoreError::new("a row holds a malformed token"))
}
