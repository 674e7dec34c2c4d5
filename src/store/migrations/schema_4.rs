//! Schema 4: sessions and visits are found by address, sessions and sent invitations by account, and entries of
//! the audit by the person that they are about.

use redb::{ReadableTable, WriteTransaction};

use super::super::{
    StoreError,
    codec::decode,
    progress,
    rows::{account_number, invitation, session, visit},
    tables::{
        ACCOUNT_INVITATIONS, ACCOUNT_SESSIONS, ADDRESS_SESSIONS, ADDRESS_VISITS, AUDIT, INVITATIONS,
        SESSIONS, SUBJECT_AUDIT, VISITS,
    },
};
use crate::domain::{audit::Entry, time::Millis};

/// Skips unreadable rows: retention removes them, and one must not prevent a start.
pub fn migrate(transaction: &WriteTransaction, _: Millis) -> Result<(), StoreError> {
    let mut by_address = transaction.open_table(ADDRESS_SESSIONS.redb())?;
    let mut by_account = transaction.open_table(ACCOUNT_SESSIONS.redb())?;
    for row in transaction.open_table(SESSIONS.redb())?.iter()? {
        let (sid, row) = row?;
        progress::step();
        let Ok((_, session)) = session::read(sid.value(), row.value()) else { continue };
        let (medium, text) = (session.address.medium().number(), session.address.as_str());
        by_address.insert((medium, text, sid.value()), ())?;
        if let Some(account) = &session.account {
            by_account.insert((account_number(account), sid.value()), ())?;
        }
    }
    let mut by_sender = transaction.open_table(ACCOUNT_INVITATIONS.redb())?;
    for row in transaction.open_table(INVITATIONS.redb())?.iter()? {
        let (token, row) = row?;
        progress::step();
        let Ok(invitation) = invitation::read(token.value(), row.value()) else { continue };
        by_sender.insert((account_number(&invitation.sender), token.value()), ())?;
    }
    let mut by_address = transaction.open_table(ADDRESS_VISITS.redb())?;
    for row in transaction.open_table(VISITS.redb())?.iter()? {
        let (secret, row) = row?;
        progress::step();
        let Ok(visit) = visit::read(row.value()) else { continue };
        by_address.insert((visit.address.medium().number(), visit.address.as_str(), secret.value()), ())?;
    }
    let mut by_subject = transaction.open_table(SUBJECT_AUDIT.redb())?;
    for row in transaction.open_table(AUDIT.redb())?.iter()? {
        let (number, row) = row?;
        progress::step();
        let Ok(Entry { subject: Some(subject), .. }) = decode(row.value()) else { continue };
        by_subject.insert((&subject, number.value()), ())?;
    }
    Ok(())
}
