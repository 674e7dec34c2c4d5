//! The visit of a person to their own page: asking for a link, confirming it, looking, leaving
//! (design, P11 and P12; section 4, rule 7).
//!
//! Nobody hears whether an address is known: who asks is answered before anything is looked at, and
//! a link goes out only to an address that something is stored about. The secret of a link, and that
//! of the browser, are stored as hashes.

use tokio::sync::{Mutex, mpsc};

use crate::{
    domain::{
        ids::Token,
        language::Language,
        outbox::OutboxKey,
        phone::PhoneNumber,
        refusal::Refusal,
        secret::SecretHash,
        threepid::Address,
        visit::{Stage, Visit},
    },
    ops::{Core, Failure, address::suppression::suppressed_since, limits::ceiling, random},
    store::{StoreError, Tables, Transaction},
};

/// How many may wait to be looked at.
const WAITING: usize = 256;

/// Somebody has asked for the link to the page of an address.
pub struct Asked {
    /// Where the link is to go.
    pub to: Destination,
    /// The language that they read.
    pub language: Language,
    /// Asked when a message would leave: whether the limits let it.
    pub may_leave: Box<dyn FnOnce() -> bool + Send>,
}

/// Where a link goes.
#[derive(Clone)]
pub enum Destination {
    /// Into a mailbox.
    Mailbox(Address),
    /// To a telephone.
    Telephone(PhoneNumber),
}

impl Destination {
    /// The address whose owner is asked.
    pub fn address(&self) -> &Address {
        match self {
            Self::Mailbox(address) => address,
            Self::Telephone(number) => number.address(),
        }
    }
}

/// Those who have asked and were answered, and whose address has not been looked at yet.
pub struct Queue {
    sender: mpsc::Sender<Asked>,
    receiver: Mutex<mpsc::Receiver<Asked>>,
}

impl Default for Queue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl Queue {
    /// Puts somebody into the queue; `false` if there is no room.
    pub fn put(&self, asked: Asked) -> bool {
        self.sender.try_send(asked).is_ok()
    }

    /// Waits for the next one.
    pub async fn next(&self) -> Option<Asked> {
        self.receiver.lock().await.recv().await
    }
}

/// What comes of asking.
pub enum Begun {
    /// The secret of the link that is to be sent.
    Link(Token),
    /// Nothing is stored about the address.
    NothingStored,
    /// The address is not to be written to.
    Suppressed,
    /// Too many messages have left of late.
    Limited,
    /// As many messages have gone to telephones today as the operator pays for.
    Ceiling,
}

/// Begins a visit if something is stored about the address and it may be written to. A message to a
/// telephone is counted here, before it leaves.
///
/// # Errors
/// Only if the database fails.
pub async fn begin(core: &Core, asked: Asked) -> Result<Begun, Failure> {
    let Asked { to, may_leave, .. } = asked;
    let (address, secret) = (to.address().clone(), Token::from_bytes(random()));
    if let Some(answer) = reason_against(&core.store.read(), &address)? {
        return Ok(answer);
    }
    if !may_leave() {
        return Ok(Begun::Limited);
    }
    let (now, most) = (core.clock.now(), core.config.sms.daily_ceiling.get());
    let hash = SecretHash::of(secret.as_str());
    let refused = core.write(move |tables| {
        // The address may have been erased meanwhile, or opted out.
        if let Some(answer) = reason_against(tables, &address)? {
            return Ok(Some(answer));
        }
        if let Destination::Telephone(_) = to {
            match ceiling::count_sms(tables, most, now) {
                Err(Failure::Refused(_)) => return Ok(Some(Begun::Ceiling)),
                counted => counted?,
            }
        }
        tables.put_visit(hash, &Visit::by_link(address, now))?;
        Ok(None)
    });
    Ok(refused.await?.unwrap_or(Begun::Link(secret)))
}

/// Why no link is sent to an address, if there is a reason.
fn reason_against<T: Transaction>(
    tables: &Tables<T>,
    address: &Address,
) -> Result<Option<Begun>, StoreError> {
    Ok(match () {
        () if !is_known(tables, address)? => Some(Begun::NothingStored),
        () if suppressed_since(tables, address)?.is_some() => Some(Begun::Suppressed),
        () => None,
    })
}

/// Whether anything is stored about an address, except that it opted out.
fn is_known<T: Transaction>(tables: &Tables<T>, address: &Address) -> Result<bool, StoreError> {
    let owner_mail = OutboxKey::of_notice(address, &tables.session_key()?);
    Ok(tables.association(address)?.is_some()
        || !tables.invitations_to(address)?.is_empty()
        || tables.outgoing(&owner_mail)?.is_some()
        || !tables.sessions_of_address(address)?.is_empty())
}

/// The link to the page.
pub fn link(core: &Core, secret: &Token, language: Language) -> String {
    let (base, language) = (&core.config.public_base_url, language.as_str());
    format!("{base}/me/visit?token={}&lang={language}", secret.as_str())
}

/// Whether a link still works. Changes nothing.
///
/// # Errors
/// Only if the database fails.
pub fn is_link(core: &Core, secret: &Token) -> Result<bool, Failure> {
    Ok(visit(core, secret, Stage::Link)?.is_some())
}

/// Follows a link, which works no more from then on; the secret of the browser.
///
/// # Errors
/// `NotFound` if it is no link of ours, was followed before, or is too old.
pub async fn confirm(core: &Core, link: Token) -> Result<Token, Failure> {
    let now = core.clock.now();
    let secret = Token::from_bytes(random());
    let (old, new) = (SecretHash::of(link.as_str()), SecretHash::of(secret.as_str()));
    core.write(move |tables| {
        let visit = tables.visit(old)?.filter(|visit| visit.stage == Stage::Link && !visit.is_over(now));
        let visit = visit.ok_or(Refusal::NotFound("This link was used before, or is too old"))?;
        tables.remove_visit(old)?;
        tables.put_visit(new, &visit.confirmed(now))?;
        Ok(())
    })
    .await?;
    Ok(secret)
}

/// The visit of a browser; `None` if it is over.
///
/// # Errors
/// Only if the database fails.
pub fn look(core: &Core, secret: &Token) -> Result<Option<Visit>, Failure> {
    visit(core, secret, Stage::Page)
}

fn visit(core: &Core, secret: &Token, stage: Stage) -> Result<Option<Visit>, Failure> {
    let (now, visit) = (core.clock.now(), core.store.read().visit(SecretHash::of(secret.as_str()))?);
    Ok(visit.filter(|visit| visit.stage == stage && !visit.is_over(now)))
}

/// What the forms of a visit's page carry, so that no other page can send them.
pub fn form_token(core: &Core, secret: &Token) -> Token {
    Token::from_bytes(core.session_key.mac(&[b"visit form", secret.as_str().as_bytes()]))
}

/// Ends a visit.
///
/// # Errors
/// Only if the database fails.
pub async fn close(core: &Core, secret: &Token) -> Result<(), Failure> {
    let hash = SecretHash::of(secret.as_str());
    core.store.write(move |tables| tables.remove_visit(hash)).await?;
    Ok(())
}
