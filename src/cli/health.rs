//! `bindery health`: asks the running server whether it is ready, for the health checks of containers.

use anyhow::bail;

use super::{control::RunningServer, print};
use crate::config::Config;

/// Succeeds if the server is ready. One line says so, or what is wrong.
pub fn health(config: &Config) -> anyhow::Result<()> {
    let Some(server) = RunningServer::find(config)? else {
        bail!("no server runs on {}", config.data_dir.display());
    };
    let readiness = server.readiness()?;
    if !readiness.ready {
        let parts = readiness.parts.iter().map(|(part, says)| format!("{part}: {says}"));
        bail!("not ready: {}", parts.collect::<Vec<_>>().join("; "));
    }
    print("ready\n")
}
