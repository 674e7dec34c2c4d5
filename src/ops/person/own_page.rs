//! The visit of a person to their own page: asking for a link, confirming it, looking, leaving
//! (design, P11 and P12; section 4, rule 7).
//!
//! Nobody hears whether an address is known: who asks is answered before anything is looked at, and
//! a link goes out only to an address that something is stored about. The secret of a link, and that
//! of the browser, are stored as hashes.

use tokio::sync::{Mutex, mpsc};

use crate::{
    domain::{
        ids::{Sid, Token},
        language::Language,
        outbox::{OutboxKey, Parcel},
        phone::PhoneNumber,
        secret::SecretHash,
        session::Session,
        threepid::Address,
        visit::{Stage, Visit},
    },
    ops::{
        Core, Failure,
        address::{suppression::suppressed_since, validate::sessions_where},
        random,
    },
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
    let sessions = sessions_where(core, |session| session.address == address)?;
    let sids: Vec<Sid> = sessions.into_iter().map(|(sid, _)| sid).collect();
    if !is_known(&core.store.read(), &address, &sids)? {
        return Ok(Begun::NothingStored);
    }
    if suppressed_since(&core.store.read(), &address)?.is_some() {
        return Ok(Begun::Suppressed);
    }
    if !may_leave() {
        return Ok(Begun::Limited);
    }
    let (now, ceiling) = (core.clock.now(), core.config.sms.daily_ceiling.get());
    let hash = SecretHash::of(secret.as_str());
    let begun = core.store.write(move |tables| {
        // It may have been erased meanwhile, or its owner may want no message any more.
        if !is_known(tables, &address, &sids)? {
            return Ok(Err(Begun::NothingStored));
        }
        if suppressed_since(tables, &address)?.is_some() {
            return Ok(Err(Begun::Suppressed));
        }
        if let Destination::Telephone(_) = to {
            if tables.sms_sent(now.day())? >= ceiling {
                return Ok(Err(Begun::Ceiling));
            }
            tables.count_sms(now.day())?;
        }
        tables.put_visit(hash, &Visit::by_link(address, now))?;
        Ok(Ok(()))
    });
    Ok(begun.await?.err().unwrap_or(Begun::Link(secret)))
}

/// Whether anything is stored about an address, beside that nothing is to be sent to it. `sids` are the
/// sessions that it had a moment ago.
fn is_known<T: Transaction>(tables: &Tables<T>, address: &Address, sids: &[Sid]) -> Result<bool, StoreError> {
    let notice = OutboxKey::of_notice(address, &tables.session_key()?);
    if tables.association(address)?.is_some()
        || !tables.invitations_to(address)?.is_empty()
        || tables.outgoing(&notice)?.is_some()
    {
        return Ok(true);
    }
    for sid in sids {
        if tables.session(sid)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
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

/// Uses up a link and opens the page; the secret of the browser, or `None` if the link does not work, because
/// Bindery did not make it, it was used before, or it has expired.
pub async fn confirm(core: &Core, link: Token) -> Result<Option<Token>, Failure> {
    let now = core.clock.now();
    let secret = Token::from_bytes(random());
    let (old, new) = (SecretHash::of(link.as_str()), SecretHash::of(secret.as_str()));
    let is_confirmed = core.store.write(move |tables| {
        let visit = tables.visit(old)?.filter(|visit| visit.stage == Stage::Link && !visit.is_over(now));
        let Some(visit) = visit else { return Ok(false) };
        tables.remove_visit(old)?;
        tables.put_visit(new, &visit.confirmed(now))?;
        Ok(true)
    });
    Ok(is_confirmed.await?.then_some(secret))
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
    Ok(core.store.write(move |tables| tables.remove_visit(hash)).await?)
}

/// Has the owner of an address written to in another language from now on.
///
/// # Errors
/// Only if the database fails.
pub async fn speak(core: &Core, address: Address, language: Language) -> Result<(), Failure> {
    let notice = OutboxKey::of_notice(&address, &core.session_key);
    let sessions = sessions_where(core, |session| session.address == address)?;
    let written = core.store.write(move |tables| {
        tables.set_language(&address, language)?;
        for (sid, _) in sessions {
            if let Some(session) = tables.session(&sid)? {
                tables.put_session(&sid, &Session { language, ..session })?;
            }
        }
        if let Some(mut row) = tables.outgoing(&notice)? {
            if let Parcel::OwnerNotice(said) = &mut row.parcel {
                said.language = language;
            }
            tables.put_outgoing(&notice, &row)?;
        }
        Ok(())
    });
    Ok(written.await?)
}
