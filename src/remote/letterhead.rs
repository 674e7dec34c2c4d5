//! What the operator's settings put into every mail: the sender, whom to answer, and the texts. A reload replaces it.

use lettre::message::Mailbox;

use super::{
    mail_headers::{reply_to, sender},
    mail_text::Texts,
};
use crate::config::Config;

/// The parts of mails that come from the settings.
pub struct Letterhead {
    pub(super) from: Mailbox,
    pub(super) reply_to: Option<Mailbox>,
    pub(super) texts: Texts,
    pub(super) operator: Option<String>,
    pub(super) contact: Option<String>,
}

impl Letterhead {
    /// Reads and renders every template.
    ///
    /// # Errors
    /// If a file cannot be read, a template does not render, or the sender is not a mailbox.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let texts = Texts::load(config.mail.templates_dir.as_deref(), &config.mail.default_brand)?;
        let said = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let (operator, contact) = (said(&config.operator.name), said(&config.operator.contact));
        Ok(Self { from: sender(config)?, reply_to: reply_to(config), texts, operator, contact })
    }
}
