//! Runs a command of `admin`: on the running server through its control socket, or on the database
//! if no server runs.

use std::{io::ErrorKind, os::unix::net::UnixStream, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use reqwest::Client;
use serde_json::Value;

use crate::{
    admin::Command,
    app::{CONTROL_SOCKET, SystemClock},
    config::{Config, DEFAULT_FILE},
    domain::{
        ids::{OpenIdToken, UserId},
        network::Network,
        server_name::ServerName,
        signing::PublicKeys,
    },
    ops::{Core, HomeserverError, Homeservers, monitoring::Readiness},
    store::{self, Store},
};

/// The database cache of a command. `store.cache_mib` is for the server.
const CACHE_BYTES: usize = 16 << 20;

/// Replacing the pepper of many millions of addresses takes longest.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3600);

/// Longer than the server waits for its own parts.
const READY_TIMEOUT: Duration = Duration::from_secs(8);

/// Runs a command.
pub fn execute<C: Command>(config: Config, command: C) -> anyhow::Result<C::Answer> {
    runtime()?.block_on(async { Database::find(config).await?.run(command).await })
}

/// Who has the database.
pub enum Database {
    /// The running server.
    Server(RunningServer),
    /// This process.
    Own(Box<Core>),
}

impl Database {
    /// The running server, or this process, which then keeps a server from starting.
    pub async fn find(config: Config) -> anyhow::Result<Self> {
        Ok(match RunningServer::find(&config)? {
            Some(server) => Self::Server(server),
            None => Self::Own(Box::new(open(config).await?)),
        })
    }

    /// Runs a command there.
    pub async fn run<C: Command>(&self, command: C) -> anyhow::Result<C::Answer> {
        match self {
            Self::Server(server) => server.ask(&command).await,
            Self::Own(core) => Ok(command.run(core).await?),
        }
    }
}

/// The server that runs on this data directory.
pub struct RunningServer(Client);

impl RunningServer {
    /// Connects to its socket; `None` if no server runs.
    ///
    /// # Errors
    /// If the socket cannot be opened: then a server may be running.
    pub fn find(config: &Config) -> anyhow::Result<Option<Self>> {
        let path = config.data_dir.join(CONTROL_SOCKET);
        match UnixStream::connect(&path) {
            Ok(_) => {
                // Fails only if a provider is installed already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                Ok(Some(Self(Client::builder().unix_socket(path).timeout(COMMAND_TIMEOUT).build()?)))
            }
            // A server that crashed leaves its socket behind, and connecting to it is refused.
            Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                Ok(None)
            }
            Err(error) => {
                store::require_own(&config.data_dir)?;
                Err(error).with_context(|| format!("cannot open {}", path.display()))
            }
        }
    }

    /// Asks the server whether it is ready.
    ///
    /// # Errors
    /// If it gives no answer in time.
    pub fn readiness(&self) -> anyhow::Result<Readiness> {
        let request = self.0.get("http://control/ready").timeout(READY_TIMEOUT);
        let body = runtime()?.block_on(async {
            let response = request.send().await.context("the server does not answer on its socket")?;
            anyhow::Ok(response.bytes().await?)
        })?;
        serde_json::from_slice(&body).context(OTHER_VERSION)
    }

    /// Has the server run a command.
    ///
    /// # Errors
    /// The server's own error message.
    pub fn execute<C: Command>(&self, command: &C) -> anyhow::Result<C::Answer> {
        runtime()?.block_on(self.ask(command))
    }

    async fn ask<C: Command>(&self, command: &C) -> anyhow::Result<C::Answer> {
        let request = self.0.post(format!("http://control{}", C::PATH)).body(serde_json::to_vec(command)?);
        let response = request.send().await.context("the server does not answer on its socket")?;
        let (status, body) = (response.status(), response.bytes().await?);
        if status.is_success() {
            return serde_json::from_slice(&body).context(OTHER_VERSION);
        }
        let error: Value = serde_json::from_slice(&body).context(OTHER_VERSION)?;
        if error["errcode"] == "M_UNRECOGNIZED" {
            bail!(OTHER_VERSION);
        }
        bail!("{}", error["error"].as_str().unwrap_or(OTHER_VERSION))
    }
}

/// Both ends have the same code, so they understand each other unless one is older.
const OTHER_VERSION: &str =
    "the running server and this command do not understand each other; restart the server with this version";

/// The runtime of a command.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Opens the database. The lock on the data directory keeps a server from starting meanwhile.
async fn open(config: Config) -> anyhow::Result<Core> {
    if store::is_missing(&config.data_dir) {
        bail!(no_database(&config));
    }
    let store = Store::open_current(&config.data_dir, CACHE_BYTES, &config.name())?;
    Ok(Core::open(Arc::new(config), store, Arc::new(SystemClock), Arc::new(NoHomeservers)).await?)
}

/// The commonest reason for this is a configuration that was not read.
fn no_database(config: &Config) -> String {
    let folder = config.data_dir.display();
    match &config.source.file {
        Some(file) => format!(
            "there is no database in {folder}; check data_dir in {}, and whether a server has run there",
            file.display()
        ),
        None => format!(
            "there is no database in {folder}, and no configuration file was read, because there is none at {DEFAULT_FILE}; name yours with --config or BINDERY_CONFIG"
        ),
    }
}

/// Commands ask no homeserver.
struct NoHomeservers;

impl Homeservers for NoHomeservers {
    fn token_owner<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a OpenIdToken,
        _: Network,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>> {
        Box::pin(async { Err(HomeserverError::Unreachable) })
    }

    fn signing_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a str,
        _: Network,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>> {
        Box::pin(async { Err(HomeserverError::Unreachable) })
    }
}
