//! Pending invitations, found by their token, the invited address, the sender, and their ephemeral key.

use std::ops::Bound;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{account_number, read_token, read_user_id};
use crate::{
    domain::{
        ids::{RoomId, Token, UserId},
        invitation::{Invitation, Invited},
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
    invited: InvitedRow,
    room_id: String,
    sender: String,
    ephemeral_key: String,
    created: Millis,
}

/// Whom an invitation invites. Earlier rows have a medium and an address here, which are encoded like the first two.
#[derive(Debug, Serialize, Deserialize)]
enum InvitedRow {
    Email(String),
    Msisdn(String),
    OptedOut { masked: String },
}

impl InvitedRow {
    fn of(invited: &Invited) -> Self {
        match invited {
            Invited::OptedOut { masked } => Self::OptedOut { masked: masked.clone() },
            Invited::Address(address) => match address.medium() {
                Medium::Email => Self::Email(address.as_str().to_owned()),
                Medium::Msisdn => Self::Msisdn(address.as_str().to_owned()),
            },
        }
    }

    fn invited(self) -> Invited {
        match self {
            Self::Email(address) => Invited::Address(Address::kept(Medium::Email, &address)),
            Self::Msisdn(address) => Invited::Address(Address::kept(Medium::Msisdn, &address)),
            Self::OptedOut { masked } => Invited::OptedOut { masked },
        }
    }
}

impl InvitationRow {
    fn of(invitation: &Invitation) -> Self {
        Self {
            invited: InvitedRow::of(&invitation.invited),
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
        invited: row.invited.invited(),
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
        let token = invitation.token.as_str();
        let row = encode(&InvitationRow::of(invitation))?;
        self.tables.invitations.insert(token, row.as_slice())?;
        self.tables.invited.insert(invited_key(&invitation.invited, token), ())?;
        self.tables.account_invitations.insert((account_number(&invitation.sender), token), ())?;
        let row = encode(&token)?;
        self.tables.ephemeral_keys.insert(invitation.ephemeral_key.as_bytes(), row.as_slice())?;
        Ok(())
    }

    /// Removes an invitation and its queued messages. Returns whether there was one.
    pub fn remove_invitation(&mut self, token: &Token) -> Result<bool, StoreError> {
        let Some(Invitation { invited, sender, ephemeral_key, .. }) = self.invitation(token)? else {
            return Ok(false);
        };
        self.tables.invitations.remove(token.as_str())?;
        self.tables.invited.remove(invited_key(&invited, token.as_str()))?;
        self.tables.account_invitations.remove((account_number(&sender), token.as_str()))?;
        self.tables.ephemeral_keys.remove(ephemeral_key.as_bytes())?;
        for kind in Kind::OF_INVITATION {
            self.remove_outgoing(&OutboxKey { kind, token: token.clone() })?;
        }
        Ok(true)
    }
}

/// The key in `invited`. An invitation without an address has one too, so that storing and removing it take as many
/// writes as for any other; no medium has the number 0.
pub(in crate::store) fn invited_key<'a>(invited: &'a Invited, token: &'a str) -> (u8, &'a str, &'a str) {
    let (medium, address) =
        invited.address().map_or((0, ""), |address| (address.medium().number(), address.as_str()));
    (medium, address, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of `invitations` before there was [`InvitedRow`].
    #[derive(Serialize)]
    struct EarlierRow {
        medium: Medium,
        address: String,
        room_id: String,
        sender: String,
        ephemeral_key: String,
        created: Millis,
    }

    #[test]
    fn earlier_rows_are_read_as_they_are() {
        for (medium, address) in [(Medium::Email, "carol@example.org"), (Medium::Msisdn, "447700900001")] {
            let row = EarlierRow {
                medium,
                address: address.to_owned(),
                room_id: "!room:hs.test".to_owned(),
                sender: "@alice:hs.test".to_owned(),
                ephemeral_key: "A".repeat(43),
                created: Millis(7),
            };
            let row = encode(&row).expect("encoded");
            let invitation = read("token", &row).expect("readable");
            assert!(invitation.invited.address() == Some(&Address::kept(medium, address)));
            assert_eq!((invitation.sender.as_str(), invitation.created), ("@alice:hs.test", Millis(7)));
            assert_eq!(encode(&InvitationRow::of(&invitation)).expect("encoded"), row);
        }
    }
}
