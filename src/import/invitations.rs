//! The pending invitations, each with the key that is in its mail.

use std::collections::HashMap;

use rusqlite::Row;

use super::{
    ImportError,
    cells::{Reason, number, required, text, time_in_seconds, user_id},
    database::Import,
};
use crate::domain::{
    ids::{RoomId, Token},
    invitation::{Invitation, Invited},
    secret::Key32,
    signing::PublicKey,
    threepid::{Address, Medium},
    time::Millis,
};

/// The invitations.
pub const INVITATIONS: &str =
    "SELECT id, medium, address, room_id, sender, token, received_ts, sent_ts FROM invite_tokens ORDER BY id";
const TIMES: &str = "SELECT id, received_ts FROM invite_tokens ORDER BY id";
/// The keys.
pub const KEYS: &str = "SELECT id, public_key, persistence_ts FROM ephemeral_public_keys ORDER BY id";

/// How many seconds may lie between storing a key and its invitation. Sydent commits once in between.
const BURST_SECONDS: i64 = 2;

/// A row of one of the two tables: its number, and when Sydent wrote it, in seconds.
#[derive(Clone, Copy)]
struct Written {
    id: i64,
    at: i64,
}

/// The key of an invitation.
#[derive(Clone)]
struct OwnKey {
    public: PublicKey,
    is_certain: bool,
}

impl Import<'_, '_, '_> {
    /// Takes the invitations that are pending. Call this after the associations were taken.
    pub fn invitations(&mut self) -> Result<(), ImportError> {
        let (mut invitations, mut keys, mut publics) = (Vec::new(), Vec::new(), Vec::new());
        self.each(TIMES, |_, id, row| {
            invitations.extend(number(row, 1).ok().flatten().map(|at| Written { id, at }));
            Ok(())
        })?;
        self.each(KEYS, |import, id, row| {
            let key = required(row, 1).ok().and_then(PublicKey::from_base64);
            match (key, number(row, 2).ok().flatten()) {
                (Some(key), Some(at)) => {
                    keys.push(Written { id, at });
                    publics.push(key);
                }
                _ => import.report.leave("ephemeral_public_keys", id, "it is not a public key with a time"),
            }
            Ok(())
        })?;
        let mut own = HashMap::new();
        for (invitation, key, is_certain) in pairs(&invitations, &keys) {
            own.insert(invitation, OwnKey { public: publics[key].clone(), is_certain });
        }
        let (now, spare) = (self.now, self.spare_key.clone());
        self.each(INVITATIONS, |import, id, row| {
            let key = own.get(&id);
            let taken = match invitation(row, key, &spare, now) {
                Ok(invitation) if import.incoming.invitation(&invitation)? => Ok(()),
                Ok(_) => Err("it is older than invites.expire_days"),
                Err(reason) => Err(reason),
            };
            match taken {
                Ok(()) => {
                    import.report.invitations += 1;
                    import.report.uncertain_keys += u64::from(!key.is_some_and(|key| key.is_certain));
                }
                Err(reason) => import.report.leave("invite_tokens", id, reason),
            }
            Ok(())
        })
    }
}

fn invitation(row: &Row<'_>, key: Option<&OwnKey>, spare: &Key32, now: Millis) -> Result<Invitation, Reason> {
    if number(row, 7)?.is_some() {
        return Err("Sydent has told the homeserver about it, or tried to");
    }
    let medium = Medium::parse(required(row, 1)?).ok_or("the medium is neither email nor msisdn")?;
    let address =
        Address::parse(medium, required(row, 2)?).ok_or("the address is not one that Bindery accepts")?;
    let token =
        Token::parse(required(row, 5)?).ok_or("the token is not 1 to 255 printable ASCII characters")?;
    let ephemeral_key =
        key.map_or_else(|| Invitation::key_pair(&token, spare).public(), |key| key.public.clone());
    Ok(Invitation {
        token,
        invited: Invited::Address(address),
        room_id: text(row, 3)?.and_then(RoomId::parse).ok_or("the room ID is not valid")?,
        sender: user_id(row, 4)?,
        ephemeral_key,
        created: time_in_seconds(number(row, 6)?, now)?,
    })
}

/// Pairs invitations with keys: the number of the row of an invitation, the position of its key, and whether that is
/// certain.
///
/// Sydent stores no link between the two. It writes the key just before its invitation, so both tables have the same
/// order. But it deletes an invitation once that is delivered, and keeps its key. So in a burst of invitations of which
/// some were deleted, the numbers of the rows must tell which keys are left over: as long as the last invitation is not
/// deleted, the next invitation and its key both get the next number.
fn pairs(invitations: &[Written], keys: &[Written]) -> Vec<(i64, usize, bool)> {
    let (mut pairs, mut next, mut offset) = (Vec::new(), 0, i64::MIN);
    let is_near = |key: &Written, row: &Written| (0..=BURST_SECONDS).contains(&row.at.saturating_sub(key.at));
    for burst in invitations.chunk_by(is_near) {
        let (Some(first), Some(last)) = (burst.first(), burst.last()) else { continue };
        let before = |key: &Written| key.at < first.at.saturating_sub(BURST_SECONDS);
        next += keys[next..].iter().take_while(|key| before(key)).count();
        let there = keys[next..].iter().take_while(|key| key.at <= last.at).count();
        let is_certain = there == burst.len();
        for (place, invitation) in burst.iter().enumerate() {
            let end = next + there;
            let fits = |at: &usize| {
                let key = &keys[*at];
                is_near(key, invitation) && (is_certain || key.id.saturating_sub(invitation.id) >= offset)
            };
            let key = if is_certain { Some(next + place).filter(fits) } else { (next..end).find(fits) };
            if let Some(key) = key {
                offset = keys[key].id.saturating_sub(invitation.id);
                pairs.push((invitation.id, key, is_certain));
            }
        }
        next += there;
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(i64, i64)]) -> Vec<Written> {
        rows.iter().map(|(id, at)| Written { id: *id, at: *at }).collect()
    }

    #[test]
    fn an_invitation_is_paired_with_the_key_that_was_written_before_it() {
        let keys = rows(&[(1, 100), (2, 200), (3, 300), (4, 300), (5, 301), (6, 400), (7, 500)]);
        // The second and the last were deleted, so the fifth got the number of the last.
        let invitations = rows(&[(1, 100), (3, 300), (4, 301), (5, 301), (6, 500)]);
        let expected = [(1, 0, true), (3, 2, true), (4, 3, true), (5, 4, true), (6, 6, true)];
        assert_eq!(pairs(&invitations, &keys), expected);
    }

    #[test]
    fn in_a_burst_the_numbers_of_the_rows_decide() {
        let keys = rows(&[(9, 50), (10, 100), (11, 100), (12, 101), (13, 900)]);
        let expected = [(9, 0, true), (10, 1, false), (12, 3, false), (13, 4, true)];
        assert_eq!(pairs(&rows(&[(9, 50), (10, 100), (12, 101), (13, 900)]), &keys), expected);
        // An invitation without a key, and keys without an invitation.
        assert_eq!(pairs(&rows(&[(1, 10), (2, 50)]), &keys), [(2, 0, true)]);
        assert_eq!(pairs(&[], &keys), []);
        assert_eq!(pairs(&rows(&[(1, i64::MIN), (2, i64::MAX)]), &keys), []);
    }
}
