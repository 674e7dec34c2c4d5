//! What a mailed link leads to: looking at the request, confirming it, saying *this was not me*
//! (design, section 4, rule 7).
//!
//! The token in the link is all that the person has to show; nothing here publishes anything.

use super::{
    owner_mail::OwnerMail,
    validate::{Validated, present},
    withdraw::withdraw_association,
};
use crate::{
    domain::{
        ids::{Sid, Token, UserId},
        refusal::Refusal,
        session::{Progress, Session},
        time::Millis,
    },
    ops::{Core, Failure},
};

/// Presents the token of a mailed link, as the person behind the address does.
///
/// # Errors
/// `NoValidSession`, `SessionExpired`, `TokenIncorrect` (which is counted).
pub async fn confirm(core: &Core, sid: Sid, token: Token) -> Result<Validated, Failure> {
    let now = core.clock.now();
    let is_right = token == Session::link_token(&sid, &core.session_key);
    let presented = core.write(move |tables| present(tables, &sid, is_right, now)).await;
    match presented.and_then(|presented| Ok(presented.validated()?)) {
        // A right token was sent by us, so its session was deleted because it was over.
        Err(Failure::Refused(Refusal::NoValidSession)) if is_right => Err(Refusal::SessionExpired.into()),
        outcome => outcome,
    }
}

/// What the person behind a mailed link may be shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Link {
    /// A question: this account asked; was it you?
    Ask(Option<UserId>),
    /// It was confirmed before.
    Used(Option<UserId>),
    /// The session is over.
    Expired,
    /// *This was not me* was said.
    Withdrawn,
    /// Not a link of ours.
    Invalid,
}

/// Looks at a mailed link without using it.
///
/// # Errors
/// Only if the database fails.
pub fn look_at(core: &Core, sid: &Sid, token: &Token) -> Result<Link, Failure> {
    if *token != Session::link_token(sid, &core.session_key) {
        return Ok(Link::Invalid);
    }
    Ok(core.store.read().session(sid)?.map_or(Link::Expired, |session| link_state(session, core.clock.now())))
}

fn link_state(session: Session, now: Millis) -> Link {
    match session.progress {
        Progress::Withdrawn => Link::Withdrawn,
        _ if session.is_over(now) => Link::Expired,
        Progress::Validated(_) => Link::Used(session.account),
        Progress::Pending => Link::Ask(session.account),
    }
}

/// Ends a session because the owner of the address did not ask for it, and withdraws what the
/// account that asked has published with it.
///
/// # Errors
/// `NoValidSession` if the link is none of ours, `SessionExpired` if the session was over anyway.
pub async fn withdraw(core: &Core, sid: Sid, token: Token) -> Result<(), Failure> {
    let (now, owner_mail) = (core.clock.now(), OwnerMail::of(core));
    if token != Session::link_token(&sid, &core.session_key) {
        return Err(Refusal::NoValidSession.into());
    }
    core.write(move |tables| {
        let mut session = tables.session(&sid)?.ok_or(Refusal::SessionExpired)?;
        if !session.withdraw(now) {
            return Err(Refusal::SessionExpired.into());
        }
        tables.put_session(&sid, &session)?;
        if let Some(account) = &session.account {
            withdraw_association(tables, account, &session.address, owner_mail)?;
        }
        Ok(())
    })
    .await
}
