//! The link in a validation mail: showing its state, confirming it, and rejecting the request (design,
//! section 4, rule 7).
//!
//! The token in the link is the only proof that the person needs. Nothing here publishes an address.

use super::{
    owner_mail::OwnerMailQueue,
    validate::{Validated, present},
    withdraw::withdraw_association,
};
use crate::{
    domain::{
        audit::By,
        ids::{Sid, Token, UserId},
        refusal::Refusal,
        session::{Progress, Session},
        threepid::Address,
        time::Millis,
    },
    ops::{Core, Failure},
};

/// Presents the token of a mailed link, for the owner of the address.
///
/// # Errors
/// `NoValidSession`, `SessionExpired`, `TokenIncorrect` (which is counted).
pub async fn confirm(core: &Core, sid: Sid, token: Token) -> Result<Validated, Failure> {
    let now = core.clock.now();
    let is_right = token == Session::link_token(&sid, &core.session_key);
    let presented = core.write(move |tables| present(tables, &sid, is_right, now)).await;
    match presented.and_then(|presented| Ok(presented.validated()?)) {
        // Only Bindery can make a right token, so its session existed and was deleted after it expired.
        Err(Failure::Refused(Refusal::NoValidSession)) if is_right => Err(Refusal::SessionExpired.into()),
        outcome => outcome,
    }
}

/// What the page of a mailed link shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Link {
    /// The session is pending. The page asks the person whether they want this account to validate the address.
    Ask(Question),
    /// The link was confirmed before.
    Used(Question),
    /// The session has expired.
    Expired,
    /// The owner rejected the request.
    Withdrawn(Question),
    /// The token is invalid.
    Invalid,
}

impl Link {
    /// What the page may show of the session. Only a valid token gets it.
    pub fn question(&self) -> Option<&Question> {
        match self {
            Self::Ask(question) | Self::Used(question) | Self::Withdrawn(question) => Some(question),
            Self::Expired | Self::Invalid => None,
        }
    }
}

/// What the person decides about.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// The address that the mail went to.
    pub address: Address,
    /// The account that asked. `None` if a homeserver asked for a person without an account.
    pub account: Option<UserId>,
    /// The other Matrix ID that the address leads to now. It no longer does once the account publishes the address.
    pub published: Option<UserId>,
}

/// Reads the state of a mailed link. Does not consume it.
pub fn read_link(core: &Core, sid: &Sid, token: &Token) -> Result<Link, Failure> {
    if *token != Session::link_token(sid, &core.session_key) {
        return Ok(Link::Invalid);
    }
    let tables = core.store.read();
    let Some(session) = tables.session(sid)? else { return Ok(Link::Expired) };
    let published = tables.association(&session.address)?.map(|association| association.user_id);
    let published = published.filter(|user_id| session.account.as_ref() != Some(user_id));
    Ok(link_state(session, published, core.clock.now()))
}

fn link_state(session: Session, published: Option<UserId>, now: Millis) -> Link {
    let is_over = session.is_over(now);
    let question = Question { address: session.address, account: session.account, published };
    match session.progress {
        Progress::Withdrawn => Link::Withdrawn(question),
        _ if is_over => Link::Expired,
        Progress::Validated(_) => Link::Used(question),
        Progress::Pending => Link::Ask(question),
    }
}

/// Ends a session that the owner of the address did not ask for. Withdraws the binding if the account that
/// asked has published the address.
///
/// # Errors
/// `NoValidSession` if the token is invalid, `SessionExpired` if the session has ended already.
pub async fn withdraw(core: &Core, sid: Sid, token: Token) -> Result<(), Failure> {
    let (now, owner_mail) = (core.clock.now(), OwnerMailQueue::of(core));
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
            withdraw_association(tables, account, &session.address, owner_mail, By::Owner)?;
        }
        Ok(())
    })
    .await
}
