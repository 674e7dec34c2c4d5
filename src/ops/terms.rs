//! Consent: which documents an account has accepted, and the gate in front of everything else
//! (specification, Identity Service API, "Terms of service").

use super::{Core, Failure, accounts::Login, notices::has_accepted_all};
use crate::{
    domain::{ids::UserId, refusal::Refusal, terms::Required},
    store::Writes,
};

/// Lets an account pass that has accepted every document that has to be.
///
/// # Errors
/// `TermsNotSigned`.
pub fn require_accepted(core: &Core, account: &UserId) -> Result<(), Failure> {
    match has_accepted_all(&core.store.read(), account, &core.terms)? {
        true => Ok(()),
        false => Err(Refusal::TermsNotSigned.into()),
    }
}

/// Notes the documents whose URL, in any language, the account accepts. Unknown URLs mean
/// nothing, and nothing is taken back.
///
/// # Errors
/// `UnknownToken`.
pub async fn accept(core: &Core, login: Login, urls: &[String]) -> Result<(), Failure> {
    let accepted: Vec<Required> =
        core.terms.iter().filter(|required| required.is_accepted_by(urls)).cloned().collect();
    let now = core.clock.now();
    let write = move |tables: &mut Writes<'_>| {
        if let Err(refusal) = login.check(tables)? {
            return Ok(Err(refusal));
        }
        let account = login.owner();
        for Required { id, document, .. } in &accepted {
            // The first time counts.
            if !tables.has_accepted(account, id, &[&document.version])? {
                tables.put_consent(account, id, &document.version, now)?;
            }
        }
        Ok(Ok(()))
    };
    Ok(core.store.write(write).await??)
}
