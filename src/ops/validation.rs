//! Proving that an address is one's own: asking for a token, presenting it, saying *this was not
//! me* (specification, Identity Service API, "Establishing associations"; design, P1).
//!
//! Nothing here publishes anything. How a token travels is the caller's: it passes a function
//! that delivers.

use super::{Core, Failure, associations, random};
use crate::{
    domain::{
        ids::{ClientSecret, Sid, Token, UserId},
        refusal::Refusal,
        session::{Progress, Session, Submission},
        threepid::Address,
        time::Millis,
    },
    store::{StoreError, Tables, Transaction},
};

/// A request for a token.
pub struct TokenRequest {
    /// The account that asks.
    pub account: UserId,
    /// The address to prove.
    pub address: Address,
    /// The secret that the client chose.
    pub secret: ClientSecret,
    /// The number of the attempt; only one greater than the last delivered sends a message.
    pub send_attempt: u64,
    /// Where to send the person afterwards; ignored unless the operator allows it.
    pub next_link: Option<String>,
}

/// A message that has to go out.
pub struct Message {
    /// To whom.
    pub address: Address,
    /// Who asked.
    pub account: UserId,
    /// The session it belongs to.
    pub sid: Sid,
    /// The token that it carries.
    pub token: Token,
}

/// Starts or continues a session, and has the message delivered if this attempt asks for one.
///
/// # Errors
/// What `deliver` refuses with; the attempt does not count then and may be repeated.
pub async fn request_token<Delivery>(
    core: &Core,
    request: TokenRequest,
    deliver: impl FnOnce(Message) -> Delivery,
) -> Result<Sid, Failure>
where
    Delivery: Future<Output = Result<(), Refusal>>,
{
    let index = Session::index_key(&request.address, &request.secret, &core.session_key);
    let _turn = core.sending.turn(index).await;
    let TokenRequest { account, address, secret, send_attempt, next_link } = request;
    let next_link =
        next_link.filter(|link| is_allowed_link(link, &core.config.validation.next_link_prefixes));
    let now = core.clock.now();
    let new_sid = Sid::from_random(random());
    let (asked_by, asked_for) = (account.clone(), address.clone());
    let (sid, due) = core
        .store
        .write(move |tables| {
            let found = tables.session_by_index(&index)?;
            let open = found
                .filter(|(_, session)| !session.is_over(now) && session.account.as_ref() == Some(&asked_by));
            if let Some((sid, session)) = &open
                && session.delivered_attempt >= Some(send_attempt)
            {
                return Ok((sid.clone(), false));
            }
            let (sid, mut session) =
                open.unwrap_or_else(|| (new_sid, Session::new(asked_for, &secret, Some(asked_by), now)));
            session.next_link = next_link;
            tables.put_indexed_session(&index, &sid, &session)?;
            Ok((sid, true))
        })
        .await?;
    if due {
        let token = Session::link_token(&sid, &core.session_key);
        deliver(Message { address, account, sid: sid.clone(), token }).await?;
        note_delivered(core, sid.clone(), send_attempt).await?;
    }
    Ok(sid)
}

/// From here on, only a greater attempt sends again.
async fn note_delivered(core: &Core, sid: Sid, send_attempt: u64) -> Result<(), StoreError> {
    core.store
        .write(move |tables| {
            let Some(mut session) = tables.session(&sid)? else { return Ok(()) };
            session.delivered_attempt = session.delivered_attempt.max(Some(send_attempt));
            tables.put_session(&sid, &session)
        })
        .await
}

/// Whether a person may be sent on to `link`: an `http` or `https` URL that begins with something
/// the operator listed.
fn is_allowed_link(link: &str, prefixes: &[String]) -> bool {
    let web = link.starts_with("https://") || link.starts_with("http://");
    let plain = link.len() <= 2048 && link.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\`".contains(&b));
    web && plain && prefixes.iter().any(|prefix| link.starts_with(prefix))
}

/// Presents a token to a session, as a client does.
///
/// # Errors
/// `NoValidSession`, `SessionExpired`, `TokenIncorrect` (which is counted).
pub async fn submit_token(
    core: &Core,
    sid: Sid,
    secret: ClientSecret,
    token: Token,
) -> Result<Validated, Failure> {
    submit(core, sid, Some(secret), token).await
}

/// Presents the token of a mailed link, as the person behind the address does.
///
/// # Errors
/// As [`submit_token`].
pub async fn confirm(core: &Core, sid: Sid, token: Token) -> Result<Validated, Failure> {
    submit(core, sid, None, token).await
}

/// The address was validated, now or before.
#[derive(Debug)]
pub struct Validated {
    /// Where the person is to be sent now.
    pub next_link: Option<String>,
}

async fn submit(
    core: &Core,
    sid: Sid,
    secret: Option<ClientSecret>,
    token: Token,
) -> Result<Validated, Failure> {
    let now = core.clock.now();
    let expected = Session::link_token(&sid, &core.session_key);
    let answer = core.store.write(move |tables| {
        let Some(mut session) = tables.session(&sid)? else { return Ok(Err(Refusal::NoValidSession)) };
        let checked = secret.map_or(Ok(()), |secret| session.check_secret(&secret));
        let submission = match checked.and_then(|()| session.submit(&token, &expected, now)) {
            Ok(submission) => submission,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if submission != Submission::AlreadyValidated {
            tables.put_session(&sid, &session)?;
        }
        let wrong = submission == Submission::Wrong;
        Ok(if wrong { Err(Refusal::TokenIncorrect) } else { Ok(Validated { next_link: session.next_link }) })
    });
    Ok(answer.await??)
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
    /// No session, or not its token.
    Invalid,
}

/// Looks at a mailed link without using it.
///
/// # Errors
/// Only if the database fails.
pub fn look_at_link(core: &Core, sid: &Sid, token: &Token) -> Result<Link, Failure> {
    if *token != Session::link_token(sid, &core.session_key) {
        return Ok(Link::Invalid);
    }
    Ok(core.store.read().session(sid)?.map_or(Link::Invalid, |session| link_state(session, core.clock.now())))
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
    let now = core.clock.now();
    if token != Session::link_token(&sid, &core.session_key) {
        return Err(Refusal::NoValidSession.into());
    }
    let answer = core.store.write(move |tables| {
        let Some(mut session) = tables.session(&sid)? else { return Ok(Err(Refusal::NoValidSession)) };
        if !session.withdraw(now) {
            return Ok(Err(Refusal::SessionExpired));
        }
        tables.put_session(&sid, &session)?;
        if let Some(account) = &session.account {
            associations::remove(tables, account, &session.address)?;
        }
        Ok(Ok(()))
    });
    Ok(answer.await??)
}

/// The address that a session validated, and when.
///
/// # Errors
/// `NoValidSession`, `SessionExpired`, `SessionNotValidated`.
pub fn validated_address(
    core: &Core,
    sid: &Sid,
    secret: &ClientSecret,
) -> Result<(Address, Millis), Failure> {
    let (session, at) = validated_session(&core.store.read(), sid, secret, core.clock.now())??;
    Ok((session.address, at))
}

/// A session that is validated, and when it was.
pub(super) fn validated_session<T: Transaction>(
    tables: &Tables<T>,
    sid: &Sid,
    secret: &ClientSecret,
    now: Millis,
) -> Result<Result<(Session, Millis), Refusal>, StoreError> {
    let session = tables.session(sid)?.ok_or(Refusal::NoValidSession);
    Ok(session.and_then(|session| {
        session.check_secret(secret)?;
        let at = session.validated_at(now)?;
        Ok((session, at))
    }))
}
