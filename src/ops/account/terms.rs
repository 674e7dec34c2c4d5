//! Consent: accepting documents, and refusing accounts that have not accepted all of them (specification,
//! Identity Service API, "Terms of service").

use super::tokens::Authenticated;
use crate::{
    domain::{refusal::Refusal, terms::Required},
    ops::{Core, Failure, privacy_notice::has_accepted_all},
    store::Writes,
};

/// Checks that an account has accepted all required documents.
///
/// # Errors
/// `TermsNotSigned`.
pub fn require_accepted(core: &Core, account: &Authenticated) -> Result<(), Failure> {
    let in_force = core.in_force();
    if account.is_known_to_have_accepted(in_force.edition()) {
        return Ok(());
    }
    let snapshot = core.store.read();
    if !has_accepted_all(&snapshot, account.user_id(), &in_force.terms)? {
        return Err(Refusal::TermsNotSigned.into());
    }
    core.tokens.cache_acceptance(account, in_force.edition(), snapshot.authorization());
    Ok(())
}

/// Stores consent to each document that has one of these URLs, in any language. Unknown URLs are ignored, and
/// earlier consents stay.
///
/// # Errors
/// `UnknownToken`.
pub async fn accept(core: &Core, account: Authenticated, urls: &[String]) -> Result<(), Failure> {
    let in_force = core.in_force();
    let accepted = in_force.terms.iter().filter(|required| required.is_accepted_by(urls));
    let accepted: Vec<Required> = accepted.cloned().collect();
    drop(in_force);
    let now = core.clock.now();
    let accept = move |tables: &mut Writes<'_>| {
        account.check(tables)?;
        let user_id = account.user_id();
        for Required { id, document, .. } in &accepted {
            // Keep the time of the first consent.
            if !tables.has_accepted(user_id, id, &[&document.version])? {
                tables.put_consent(user_id, id, &document.version, now)?;
            }
        }
        Ok(())
    };
    core.write(accept).await
}
