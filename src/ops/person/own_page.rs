//! A person's own page: requesting the link, confirming it, viewing the page, leaving it (design, P11 and P12;
//! section 4, rule 7).
//!
//! The answer to a request never reveals whether an address is known. Bindery answers before it reads anything,
//! and sends a link only if something is stored about the address. The secrets of the link and of the browser
//! are stored as hashes.

pub use super::link_requests::{LinkRequest, LinkRequests};
use crate::{
    domain::{
        audit::{By, Deed, Entry},
        ids::Token,
        outbox::OutboxKey,
        phone::PhoneNumber,
        secret::SecretHash,
        threepid::Address,
        visit::{Stage, Visit},
    },
    ops::{
        Core, Failure,
        address::suppression::suppressed_since,
        limits::ceiling::{self, Ceiling},
        random,
    },
    store::{StoreError, Tables, Transaction},
};

/// Where to send a link.
#[derive(Clone)]
pub enum Recipient {
    /// To a mailbox.
    Mailbox(Address),
    /// To a phone.
    Phone(PhoneNumber),
}

impl Recipient {
    /// The address that the link is for.
    pub fn address(&self) -> &Address {
        match self {
            Self::Mailbox(address) => address,
            Self::Phone(number) => number.address(),
        }
    }
}

/// The result of a request.
pub enum LinkOutcome {
    /// The secret of the link to send.
    Link(Token),
    /// Nothing is stored about the address.
    NothingStored,
    /// The address has opted out of messages.
    Suppressed,
    /// The daily ceiling of messages to phones (`sms.daily_ceiling`) is reached.
    Ceiling,
}

/// Begins a visit if something is stored about the address and it has not opted out. A request for a phone counts
/// against the daily ceiling in any case: otherwise the ceiling would reveal which numbers are known.
pub async fn begin_visit(core: &Core, to: Recipient) -> Result<LinkOutcome, Failure> {
    let (address, secret) = (to.address().clone(), Token::short(random()));
    if let (Recipient::Mailbox(_), Some(reason)) = (&to, reason_against(&core.store.read(), &address)?) {
        return Ok(reason);
    }
    let (now, most) = (core.clock.now(), core.config.sms.daily_ceiling.get());
    let hash = SecretHash::of(secret.as_str());
    let refused = core.write(move |tables| {
        if let Recipient::Phone(_) = to {
            match ceiling::count_sms(tables, most, now) {
                Err(Failure::Refused(_)) => return Ok(Some(LinkOutcome::Ceiling)),
                counted => counted?,
            }
        }
        // The address may have been erased meanwhile, or opted out.
        if let Some(reason) = reason_against(tables, &address)? {
            return Ok(Some(reason));
        }
        tables.put_visit(hash, &Visit::by_link(address, now))?;
        Ok(None)
    });
    let outcome = refused.await?.unwrap_or(LinkOutcome::Link(secret));
    if let LinkOutcome::Ceiling = outcome {
        Ceiling::Sms.count(&core.metrics);
    }
    Ok(outcome)
}

/// The reason why no link may be sent to an address, if there is one.
fn reason_against<T: Transaction>(
    tables: &Tables<T>,
    address: &Address,
) -> Result<Option<LinkOutcome>, StoreError> {
    Ok(match () {
        () if !is_known(tables, address)? => Some(LinkOutcome::NothingStored),
        () if suppressed_since(tables, address)?.is_some() => Some(LinkOutcome::Suppressed),
        () => None,
    })
}

/// Whether anything is stored about an address, apart from an opt-out.
fn is_known<T: Transaction>(tables: &Tables<T>, address: &Address) -> Result<bool, StoreError> {
    let owner_mail = OutboxKey::of_owner_mail(address, &tables.session_key()?);
    Ok(tables.association(address)?.is_some()
        || !tables.invitations_to(address)?.is_empty()
        || tables.outgoing(&owner_mail)?.is_some()
        || !tables.sessions_of_address(address)?.is_empty())
}

/// The URL of the link: short, and without a sign that a mail encodes.
pub fn link(core: &Core, secret: &Token) -> String {
    format!("{}/me/visit/{}", core.config.public_base_url, secret.as_str())
}

/// Whether a link is still valid. Does not consume it.
pub fn is_link(core: &Core, secret: &Token) -> Result<bool, Failure> {
    Ok(visit(core, secret, Stage::Link)?.is_some())
}

/// Consumes a link and opens the page. Returns the secret for the browser, or `None` if the link is invalid, was used
/// before, or has expired.
pub async fn confirm(core: &Core, link: Token) -> Result<Option<Token>, Failure> {
    let now = core.clock.now();
    let secret = Token::from_bytes(random());
    let (old, new) = (SecretHash::of(link.as_str()), SecretHash::of(secret.as_str()));
    let is_confirmed = core.store.write(move |tables| {
        let visit = tables.visit(old)?.filter(|visit| visit.stage == Stage::Link && !visit.is_over(now));
        let Some(visit) = visit else { return Ok(false) };
        tables.remove_visit(old)?;
        // The page shows what is stored about the address.
        let key = tables.session_key()?;
        tables.put_audit(&Entry::about(&visit.address, Deed::PageView, By::Owner, &key, now))?;
        tables.put_visit(new, &visit.confirmed(now))?;
        Ok(true)
    });
    Ok(is_confirmed.await?.then_some(secret))
}

/// The visit of a browser. `None` if it has expired.
pub fn find_visit(core: &Core, secret: &Token) -> Result<Option<Visit>, Failure> {
    visit(core, secret, Stage::Page)
}

fn visit(core: &Core, secret: &Token, stage: Stage) -> Result<Option<Visit>, Failure> {
    let (now, visit) = (core.clock.now(), core.store.read().visit(SecretHash::of(secret.as_str()))?);
    Ok(visit.filter(|visit| visit.stage == stage && !visit.is_over(now)))
}

/// A secret for a browser that opens a link, see [`link_form_token`].
pub fn browser_secret() -> Token {
    Token::from_bytes(random())
}

/// The CSRF token of the form that opens a link. It belongs to one browser, so nobody can have another browser open
/// their own page.
pub fn link_form_token(core: &Core, browser: &Token, link: &Token) -> Token {
    let parts = [b"link form".as_slice(), browser.as_str().as_bytes(), link.as_str().as_bytes()];
    Token::from_bytes(core.session_key.mac(&parts))
}

/// The CSRF token of the page's forms.
pub fn form_token(core: &Core, secret: &Token) -> Token {
    Token::from_bytes(core.session_key.mac(&[b"visit form", secret.as_str().as_bytes()]))
}

/// Ends a visit.
pub async fn close(core: &Core, secret: &Token) -> Result<(), Failure> {
    let hash = SecretHash::of(secret.as_str());
    core.store.write(move |tables| tables.remove_visit(hash)).await?;
    Ok(())
}
