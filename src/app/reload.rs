//! Reload: puts a changed configuration into effect while the server runs, as a whole or not at all.
//!
//! Everything that can fail comes first. `config::RELOADABLE` lists the keys that it applies.

use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::watch;

use super::certificate::{self, Certificate};
use crate::{
    config::{Changes, Config},
    http,
    ops::{Core, privacy_notice},
    remote::{letterhead::Letterhead, mail::Mailer, sms::SmsGateway, sms::SmsTexts},
};

/// What a reload changes. One reload runs at a time.
pub struct Reload {
    pub(super) in_force: Config,
    pub(super) core: Arc<Core>,
    pub(super) mailer: Arc<Mailer>,
    pub(super) sms: Arc<SmsGateway>,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) is_serving: watch::Receiver<bool>,
}

impl Reload {
    /// Waits until the server has told the service manager that it is ready.
    pub async fn wait_until_serving(&mut self) {
        // An error means that the server has ended, and then nothing is reloaded.
        let _ = self.is_serving.wait_for(|is_serving| *is_serving).await;
    }

    /// Applies what a reload can apply, and reads templates and certificate again even if no key has changed.
    ///
    /// # Errors
    /// If something is wrong. Nothing has changed then.
    pub async fn apply(&mut self, new: &Config) -> anyhow::Result<Changes> {
        let changes = self.in_force.changes_to(new);
        let config = &changes.config;
        config.check().context("the changes need a restart to fit together")?;
        let letterhead = Letterhead::load(config)?;
        let texts = SmsTexts::load(config)?;
        let pair = match (&self.certificate, certificate::read(&config.http.tls)?) {
            (Some(certificate), Some(pair)) => Some((certificate, pair)),
            (Some(_), None) => bail!(
                "http.tls.certificate_file: the server runs with TLS and needs one; restart it to serve without TLS"
            ),
            (None, _) => None,
        };
        let notice = http::notice_texts(&config.notice())?;
        privacy_notice::republish(&self.core, config, notice).await?;
        self.mailer.set_letterhead(letterhead);
        self.sms.set_texts(texts);
        if let Some((certificate, pair)) = pair {
            certificate.replace(pair);
        }
        self.core.limits.set_rates(config.limits.clone());
        self.in_force = config.clone();
        Ok(changes)
    }
}
