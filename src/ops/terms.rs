//! Consent: which documents an account has accepted, and the gate in front of everything else
//! (specification, Identity Service API, "Terms of service").

use super::{Core, Failure};
use crate::{
    domain::{ids::UserId, refusal::Refusal, terms::accepted_by},
    store::Writes,
};

/// Lets an account pass that has accepted the current version of every document.
///
/// # Errors
/// `TermsNotSigned`.
pub fn require_accepted(core: &Core, account: &UserId) -> Result<(), Failure> {
    let snapshot = core.store.read();
    for (id, document) in &core.config.terms {
        if !snapshot.has_accepted(account, id, &document.version)? {
            return Err(Refusal::TermsNotSigned.into());
        }
    }
    Ok(())
}

/// Notes the documents whose URL, in any language, the account accepts. Unknown URLs mean
/// nothing, and nothing is taken back.
///
/// # Errors
/// Only if the database fails.
pub async fn accept(core: &Core, account: UserId, urls: &[String]) -> Result<(), Failure> {
    let accepted = accepted_by(&core.config.terms, urls);
    let accepted: Vec<_> =
        accepted.into_iter().map(|(id, version)| (id.to_owned(), version.to_owned())).collect();
    let now = core.clock.now();
    let write = move |tables: &mut Writes<'_>| {
        for (id, version) in &accepted {
            if !tables.has_accepted(&account, id, version)? {
                tables.put_consent(&account, id, version, now)?;
            }
        }
        Ok(())
    };
    Ok(core.store.write(write).await?)
}
