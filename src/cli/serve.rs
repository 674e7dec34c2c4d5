//! `bindery serve`: logging, signals, and warnings about the configuration; the rest is in `app`.

use super::{logging, signals::Signals};
use crate::{
    app::{Application, Environment},
    config::{Config, MailTransport, SmsTransport},
};

/// Runs the server until SIGTERM or SIGINT.
pub fn serve(config: Config) -> anyhow::Result<()> {
    let _flush = logging::start(&config.log)?;
    let signals = Signals::start()?;
    warn(&config);
    let application = Application::build(config, Environment::default())?;
    signals.serving();
    let mut waited = Ok(());
    application.run_until(async { waited = signals.stop().await })?;
    waited?;
    tracing::info!("stopped; the database is closed");
    Ok(())
}

/// Warns of settings that are fine for trying out and not for real people.
fn warn(config: &Config) {
    if config.mail.transport == MailTransport::Directory {
        tracing::warn!(
            directory = %config.mail_directory().display(),
            "mails are written into files and not sent: set mail.transport = \"smtp\" to send them"
        );
    }
    if config.sms.gateway == SmsTransport::Directory {
        tracing::warn!(
            directory = %config.sms_directory().display(),
            "text messages are written into files and not sent: set sms.gateway to send them (docs/sms.md)"
        );
    }
    if config.delegates_to_a_proxy() {
        tracing::warn!(
            "delegation.allowed_networks contains the address of a trusted proxy: make sure that the proxy sets X-Forwarded-For, otherwise anyone can have messages sent"
        );
    }
    for key in config.operator.unsaid() {
        tracing::warn!(
            "{key} is empty: set it, otherwise the privacy notice says that the operator did not give it"
        );
    }
}
