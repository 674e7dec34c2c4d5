//! Validating an address: requesting a token and presenting it (specification, Identity Service API,
//! "Establishing associations"; design, P1 and P4).
//!
//! Nothing here publishes an address. The caller passes a function that delivers the token.

use super::suppression::suppressed_since;
use crate::{
    domain::{
        ids::{ClientSecret, Sid, Token},
        language::Language,
        refusal::Refusal,
        session::{Session, Submission},
        threepid::{Address, Medium},
        time::Millis,
    },
    metrics::RequestLimit,
    ops::{
        Core, Failure,
        account::tokens::Authenticated,
        limits::ceiling::{self, Ceiling},
        random,
    },
    store::{StoreError, Tables, Transaction, Writes},
};

/// Who uses a session. A homeserver may not use the session of an account, nor an account that of a homeserver.
/// A homeserver validates for people without an account and publishes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// A client with an access token.
    Account,
    /// A homeserver that delegates the validation of phone numbers.
    Homeserver,
}

impl User {
    pub(in crate::ops) fn may_use(self, session: &Session) -> Result<(), Refusal> {
        let own = session.account.is_none() == (self == Self::Homeserver);
        if own { Ok(()) } else { Err(Refusal::NoValidSession) }
    }
}

/// A request for a token.
pub struct TokenRequest {
    /// The account that asks. `None` for a homeserver.
    pub account: Option<Authenticated>,
    /// The address to prove.
    pub address: Address,
    /// The secret that the client chose.
    pub secret: ClientSecret,
    /// The number of the attempt. A message is sent only if it is greater than the last delivered one.
    pub send_attempt: u64,
    /// Where to redirect the person afterwards. Ignored unless the operator allows it.
    pub next_link: Option<String>,
    /// The language that the person reads.
    pub language: Language,
}

/// A message to deliver.
pub struct Message {
    /// The recipient.
    pub address: Address,
    /// The session it belongs to.
    pub sid: Sid,
    /// The token that it carries.
    pub token: Token,
}

/// What to do with a message. The caller must not learn which of the two happened (design, P20; section 4, rule 12).
pub enum Delivery {
    /// Send it.
    Real(Message),
    /// The address opted out: do the same work, take as long and fail as often, but send nothing.
    Rehearsal(Message),
}

/// Starts or continues a session. Delivers a message if this attempt requires one and `admit` allows it.
/// `admit` is called only then, because limits on messages count those that are due.
///
/// # Errors
/// `UnknownToken`, the refusals of `admit`, and those of `deliver`. Then the attempt does not count and may be
/// repeated.
pub async fn request_token<Delivered>(
    core: &Core,
    request: TokenRequest,
    admit: impl FnOnce() -> Result<(), Refusal>,
    deliver: impl FnOnce(Delivery) -> Delivered,
) -> Result<Sid, Failure>
where
    Delivered: Future<Output = Result<(), Refusal>>,
{
    let index = Session::index_key(&request.address, &request.secret, &core.session_key);
    let _turn = core.sending.turn(index).await;
    let TokenRequest { account, address, secret, send_attempt, next_link, language } = request;
    let next_link =
        next_link.filter(|link| is_allowed_link(link, &core.config.validation.next_link_prefixes));
    let now = core.clock.now();
    let new_sid = Sid::from_random(random());
    let (asked_for, key) = (address.clone(), core.session_key.clone());
    let begun = core.write(move |tables| {
        account.as_ref().map(|account| account.check(tables)).transpose()?;
        let account = account.map(|account| account.user_id().clone());
        let found = tables.session_by_index(&index)?;
        let open = found.filter(|(_, session)| !session.is_over(now) && session.account == account);
        if let Some((sid, session)) = &open
            && session.delivered_attempt >= Some(send_attempt)
        {
            return Ok((sid.clone(), false));
        }
        let (sid, mut session) =
            open.unwrap_or_else(|| (new_sid, Session::new(asked_for, &secret, account, language, &key, now)));
        session.next_link = next_link;
        session.language = language;
        tables.put_session(&sid, &session)?;
        Ok((sid, true))
    });
    let (sid, due) = begun.await?;
    if due {
        admit()?;
        let token = match address.medium() {
            Medium::Email => Session::link_token(&sid, &core.session_key),
            Medium::Msisdn => new_code(core, sid.clone()).await?,
        };
        let has_opted_out = suppressed_since(&core.store.read(), &address)?.is_some();
        let message = Message { address, sid: sid.clone(), token };
        deliver(if has_opted_out { Delivery::Rehearsal(message) } else { Delivery::Real(message) }).await?;
        note_delivered(core, sid.clone(), send_attempt).await?;
    }
    Ok(sid)
}

/// Makes the code of a message that is due, and counts the message against the daily ceiling.
async fn new_code(core: &Core, sid: Sid) -> Result<Token, Failure> {
    let (code, hash) = core.codes.make().await.inspect_err(|failure| note_busy(core, failure))?;
    let (now, most) = (core.clock.now(), core.config.sms.daily_ceiling.get());
    let counted = core.write(move |tables| {
        let mut session = tables.session(&sid)?.ok_or(Refusal::NoValidSession)?;
        ceiling::count_sms(tables, most, now)?;
        session.next_code(hash);
        Ok(tables.put_session(&sid, &session)?)
    });
    counted.await.inspect_err(|failure| Ceiling::Sms.note_if_reached(&core.metrics, failure, most))?;
    Ok(code)
}

/// Counts a request for which no place was free to hash its code.
fn note_busy(core: &Core, failure: &Failure) {
    if let Failure::Refused(_) = failure {
        core.metrics.count_limited(RequestLimit::Codes);
    }
}

/// Records a delivered attempt. Only a greater attempt sends again.
async fn note_delivered(core: &Core, sid: Sid, send_attempt: u64) -> Result<(), StoreError> {
    core.store
        .write(move |tables| {
            let Some(mut session) = tables.session(&sid)? else { return Ok(()) };
            session.delivered(send_attempt);
            tables.put_session(&sid, &session)
        })
        .await
}

/// Whether a person may be redirected to `link`: an `http` or `https` URL with a prefix that the operator
/// listed.
fn is_allowed_link(link: &str, prefixes: &[String]) -> bool {
    let is_web = link.starts_with("https://") || link.starts_with("http://");
    let is_plain =
        link.len() <= 2048 && link.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\`".contains(&b));
    is_web && is_plain && prefixes.iter().any(|prefix| link.starts_with(prefix))
}

/// The address is validated, now or before.
#[derive(Debug)]
pub struct Validated {
    /// Where to redirect the person now.
    pub next_link: Option<String>,
}

/// Presents a token to a session of this medium, for a client or a homeserver.
///
/// # Errors
/// `NoValidSession`, `SessionExpired`, `TokenIncorrect` (which is counted), and `LimitExceeded` if too many
/// codes are being checked.
pub async fn submit_token(
    core: &Core,
    user: User,
    medium: Medium,
    sid: Sid,
    secret: ClientSecret,
    token: Token,
) -> Result<Validated, Failure> {
    let now = core.clock.now();
    let find = || Ok::<_, Failure>(core.store.read().session(&sid)?.ok_or(Refusal::NoValidSession)?);
    let session = find()?;
    session.check_secret(&secret)?;
    user.may_use(&session)?;
    if session.address.medium() != medium {
        return Err(Refusal::NoValidSession.into());
    }
    // Tokens that are submitted at once are counted one by one, so no more codes are hashed than may be tried.
    let _turn = core.submitting.turn(session.index_key).await;
    let session = find()?;
    if session.is_over(now) {
        return Err(Refusal::SessionExpired.into());
    }
    // Checking a code is slow, so it runs outside the transaction. The transaction checks the rest again.
    let is_mail = session.address.medium() == Medium::Email;
    if session.is_out_of_tries() {
        return Err(Refusal::TokenIncorrect.into());
    }
    let is_link = is_mail && token == Session::link_token(&sid, &core.session_key);
    let mut code = None;
    for candidate in session.codes() {
        if core
            .codes
            .matches(candidate, token.clone())
            .await
            .inspect_err(|failure| note_busy(core, failure))?
        {
            code = Some(candidate);
            break;
        }
    }
    let presented = core.write(move |tables| {
        let is_still_good = |session: Session| session.codes().any(|good| Some(good) == code);
        let is_code = code.is_some() && tables.session(&sid)?.is_some_and(is_still_good);
        present(tables, &sid, is_link || is_code, now)
    });
    Ok(presented.await?.validated()?)
}

/// The result of presenting a token. A wrong token is no refusal: its count in the session must be committed.
pub(in crate::ops) enum Presented {
    /// The token was right.
    Right(Validated),
    /// The token was wrong.
    Wrong,
}

impl Presented {
    /// # Errors
    /// `TokenIncorrect`.
    pub(in crate::ops) fn validated(self) -> Result<Validated, Refusal> {
        match self {
            Self::Right(validated) => Ok(validated),
            Self::Wrong => Err(Refusal::TokenIncorrect),
        }
    }
}

/// Presents a token to a session, and counts a wrong one.
pub(in crate::ops) fn present(
    tables: &mut Writes<'_>,
    sid: &Sid,
    is_right: bool,
    now: Millis,
) -> Result<Presented, Failure> {
    let mut session = tables.session(sid)?.ok_or(Refusal::NoValidSession)?;
    let submission = session.submit(is_right, now)?;
    if submission != Submission::AlreadyValidated {
        tables.put_session(sid, &session)?;
    }
    Ok(match submission {
        Submission::Wrong => Presented::Wrong,
        Submission::Validated | Submission::AlreadyValidated => {
            Presented::Right(Validated { next_link: session.next_link })
        }
    })
}

/// The address that a session validated, and when.
///
/// # Errors
/// `NoValidSession`, `SessionExpired`, `SessionNotValidated`.
pub fn validated_address(
    core: &Core,
    user: User,
    sid: &Sid,
    secret: &ClientSecret,
) -> Result<(Address, Millis), Failure> {
    let (session, at) = validated_session(&core.store.read(), sid, secret, core.clock.now())?;
    user.may_use(&session)?;
    Ok((session.address, at))
}

/// A validated session, and when it was validated.
pub(in crate::ops) fn validated_session<T: Transaction>(
    tables: &Tables<T>,
    sid: &Sid,
    secret: &ClientSecret,
    now: Millis,
) -> Result<(Session, Millis), Failure> {
    let session = tables.session(sid)?.ok_or(Refusal::NoValidSession)?;
    session.check_secret(secret)?;
    let at = session.validated_at(now)?;
    Ok((session, at))
}
