//! `bindery serve`: logging, the signals that stop it, and word to the service manager.

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    app::{Application, Surroundings},
    config::{Config, Log, LogFormat, MailTransport, SmsTransport},
};

/// Runs the server until SIGTERM or SIGINT.
pub fn serve(config: Config) -> anyhow::Result<()> {
    start_logging(&config.log)?;
    let mail_directory = (config.mail.transport == MailTransport::Directory).then(|| config.mail_directory());
    let sms_directory = (config.sms.gateway == SmsTransport::Directory).then(|| config.sms_directory());
    let is_open = config.delegates_to_a_proxy();
    let unsaid = config.operator.unsaid();
    let (name, base) = (config.server_name.clone(), config.public_base_url.clone());
    let application = Application::build(config, Surroundings::default())?;
    for address in application.addresses() {
        tracing::info!(server_name = name, public_base_url = base, %address, "serving");
    }
    if let Some(directory) = mail_directory {
        tracing::warn!(
            directory = %directory.display(),
            "mails are written into files and not sent: set mail.transport = \"smtp\" to send them"
        );
    }
    if let Some(directory) = sms_directory {
        tracing::warn!(
            directory = %directory.display(),
            "messages to telephones are written into files and not sent: see sms.gateway"
        );
    }
    if is_open {
        tracing::warn!(
            "delegation.allowed_networks has the address of a trusted proxy: unless the proxy sends X-Forwarded-For, everybody may have messages sent"
        );
    }
    for key in unsaid {
        tracing::warn!("{key} is empty: the privacy notice says that nobody has said so");
    }
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    application.run_until(async {
        stop_signal().await;
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    })?;
    tracing::info!("stopped; the database is closed");
    Ok(())
}

/// What the log shows.
pub fn log_filter(log: &Log) -> anyhow::Result<EnvFilter> {
    // What the HTTP library says about its threads is nothing an operator needs.
    EnvFilter::try_new(format!("actix_server=warn,{}", log.level))
        .with_context(|| format!("log.level: '{}' is not a level", log.level))
}

/// Starts logging to standard error.
fn start_logging(log: &Log) -> anyhow::Result<()> {
    let filter = log_filter(log)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => subscriber.with_ansi(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
pub async fn stop_signal() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
