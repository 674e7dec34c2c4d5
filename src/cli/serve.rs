//! `bindery serve`: logging, signals, reloads, and warnings about the configuration; the rest is in `app`.

use std::future::pending;

use tokio::sync::mpsc;

use super::{WithConfig, logging, signals::Signals};
use crate::{
    app::{Application, Environment, PassedSockets, Reload, Reloading},
    config::{Changes, ConfigError},
};

/// Runs the server until SIGTERM or SIGINT.
pub fn serve(with: &WithConfig, allows_new_database: bool) -> anyhow::Result<()> {
    let config = with.load_for_server()?;
    let _flush = logging::start(&config.log)?;
    let mut signals = Signals::start()?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let sockets = passed_sockets()?;
    let application =
        Application::build(config, Environment { allows_new_database, sockets, ..Environment::default() })?;
    signals.serving();
    let (hangups, reload) = (signals.hangups(), application.reload());
    let mut waited = Ok(());
    application.run_until(async {
        tokio::select! {
            stopped = signals.stop() => waited = stopped,
            () = reload_on_hangup(with, hangups, reload) => {}
        }
    })?;
    waited?;
    tracing::info!("stopped; the database is closed");
    Ok(())
}

/// Reloads the configuration at each SIGHUP, for ever.
async fn reload_on_hangup(with: &WithConfig, mut hangups: mpsc::Receiver<()>, mut reload: Reload) {
    reload.wait_until_serving().await;
    while hangups.recv().await.is_some() {
        let _reloading = Reloading::begin();
        if let Err(error) = reload_once(with, &mut reload).await {
            let reason = format!("{error:#}");
            tracing::error!(reason, "the configuration is not reloaded; the previous one stays in force");
        }
    }
    // The thread for signals has ended, and that ends the server.
    pending::<()>().await;
}

async fn reload_once(with: &WithConfig, reload: &mut Reload) -> anyhow::Result<()> {
    let config = with.load_for_server()?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let Changes { config, reloaded, need_restart } = reload.apply(&config).await?;
    logging::set_level(&config.log)?;
    for key in &need_restart {
        tracing::warn!("{key} needs a restart; until then, its previous value stays in force");
    }
    tracing::info!(changed = reloaded.join(", "), "the configuration is reloaded");
    Ok(())
}

/// The sockets of a socket unit, see `sd_listen_fds(3)`.
fn passed_sockets() -> anyhow::Result<PassedSockets> {
    #[expect(clippy::disallowed_methods, reason = "the service manager sets it; it is not configuration")]
    let names = std::env::var("LISTEN_FDNAMES").ok();
    PassedSockets::take(names.as_deref()).map_err(|error| ConfigError(vec![format!("{error:#}")]).into())
}
