//! Consent: which documents an account has accepted, and the gate in front of everything else
//! (specification, Identity Service API, "Terms of service").

use super::tokens::Authenticated;
use crate::{
    domain::{refusal::Refusal, terms::Required},
    ops::{Core, Failure, privacy_notice::has_accepted_all},
    store::Writes,
};

/// Lets an account pass that has accepted every document that has to be.
///
/// # Errors
/// `TermsNotSigned`.
pub fn require_accepted(core: &Core, account: &Authenticated) -> Result<(), Failure> {
    if account.is_known_to_have_accepted() {
        return Ok(());
    }
    let snapshot = core.store.read();
    if !has_accepted_all(&snapshot, account.user_id(), &core.terms)? {
        return Err(Refusal::TermsNotSigned.into());
    }
    core.tokens.cache_acceptance(account, snapshot.authorization());
    Ok(())
}

/// Notes the documents whose URL, in any language, the account accepts. Unknown URLs mean
/// nothing, and nothing is taken back.
///
/// # Errors
/// `UnknownToken`.
pub async fn accept(core: &Core, account: Authenticated, urls: &[String]) -> Result<(), Failure> {
    let accepted: Vec<Required> =
        core.terms.iter().filter(|required| required.is_accepted_by(urls)).cloned().collect();
    let now = core.clock.now();
    let accept = move |tables: &mut Writes<'_>| {
        account.check(tables)?;
        let user_id = account.user_id();
        for Required { id, document, .. } in &accepted {
            // The first time counts.
            if !tables.has_accepted(user_id, id, &[&document.version])? {
                tables.put_consent(user_id, id, &document.version, now)?;
            }
        }
        Ok(())
    };
    core.write(accept).await
}
