//! The language of mails and messages to the owner of an address.

use crate::{
    domain::{
        language::Language,
        outbox::{OutboxKey, Payload},
        session::Session,
        threepid::Address,
    },
    ops::{Core, Failure},
};

/// Changes the language of mails and messages to the owner of an address.
pub async fn set_language(core: &Core, address: Address, language: Language) -> Result<(), Failure> {
    let owner_mail = OutboxKey::of_owner_mail(&address, &core.session_key);
    let written = core.store.write(move |tables| {
        tables.set_language(&address, language)?;
        for (sid, session) in tables.sessions_of_address(&address)? {
            tables.put_session(&sid, &Session { language, ..session })?;
        }
        if let Some(mut row) = tables.outgoing(&owner_mail)? {
            if let Payload::OwnerMail(notice) = &mut row.payload {
                notice.language = language;
            }
            tables.put_outgoing(&owner_mail, &row)?;
        }
        Ok(())
    });
    Ok(written.await?)
}
