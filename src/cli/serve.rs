//! `bindery serve`: logging, signals, and warnings about the configuration; the rest is in `app`.

use super::{logging, signals::Signals};
use crate::{
    app::{Application, Environment},
    config::Config,
};

/// Runs the server until SIGTERM or SIGINT.
pub fn serve(config: Config, allows_new_database: bool) -> anyhow::Result<()> {
    let _flush = logging::start(&config.log)?;
    let signals = Signals::start()?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let environment = Environment { allows_new_database, ..Environment::default() };
    let application = Application::build(config, environment)?;
    signals.serving();
    let mut waited = Ok(());
    application.run_until(async { waited = signals.stop().await })?;
    waited?;
    tracing::info!("stopped; the database is closed");
    Ok(())
}
