//! The headers of every mail: who sends it, who gets an answer, and those that the mail library does not know.

use anyhow::Context;
use lettre::message::{Mailbox, header};

use crate::{config::Config, domain::threepid::Address};

/// The sender: the mailbox in `mail.from`, with the operator's name if it has none. The domain is in A-labels, because
/// relays take others only with SMTPUTF8 (RFC 6531).
///
/// # Errors
/// If `mail.from` is not a mailbox.
pub fn sender(config: &Config) -> anyhow::Result<Mailbox> {
    let from = &config.mail.from;
    let mailbox = || {
        let Mailbox { name, email } = from.parse()?;
        let domain = idna::domain_to_ascii_strict(email.domain())?;
        let named = |name: &String| !name.trim().is_empty();
        let operator = || Some(config.operator.name.clone()).filter(named);
        let name = name.filter(named).or_else(operator);
        anyhow::Ok(Mailbox::new(name, lettre::Address::new(email.user(), domain)?))
    };
    mailbox().with_context(|| {
        format!("mail.from: '{from}' is not a sender; write it like 'noreply@example.org' or 'Name <noreply@example.org>'")
    })
}

/// Who gets an answer: the contact of the operator. `None` if there is none, or if every mail with it would need
/// SMTPUTF8, which not every relay offers.
pub fn reply_to(config: &Config) -> Option<Mailbox> {
    let contact = Address::email(&config.operator.contact)?;
    let (local, domain) = contact.smtp()?;
    local.is_ascii().then(|| Mailbox::new(None, lettre::Address::new_dangerous(local, domain)))
}

/// `Auto-Submitted: auto-generated` (RFC 3834), so that no vacation message answers.
#[derive(Clone)]
pub struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// `List-Unsubscribe` (RFC 2369): the stop link. Mail programs show it as a button.
#[derive(Clone)]
pub struct ListUnsubscribe(pub String);

impl header::Header for ListUnsubscribe {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.trim_matches(['<', '>']).to_owned()))
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), format!("<{}>", self.0))
    }
}

/// `List-Unsubscribe-Post: List-Unsubscribe=One-Click` (RFC 8058): a mail program may opt out without the page.
#[derive(Clone)]
pub struct ListUnsubscribePost;

impl header::Header for ListUnsubscribePost {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "List-Unsubscribe=One-Click".to_owned())
    }
}
