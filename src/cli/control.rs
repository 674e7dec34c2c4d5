//! How the operator's commands reach the data: through the socket of the server that runs, or by
//! opening the database if none does.

use std::{io::ErrorKind, os::unix::net::UnixStream, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use futures_util::future::BoxFuture;
use reqwest::Client;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    app::{CONTROL_SOCKET, SystemClock},
    config::Config,
    domain::{
        clock::Clock,
        ids::{OpenIdToken, UserId},
        server_name::ServerName,
        signing::PublicKeys,
    },
    ops::{self, Core, HomeserverError, Homeservers},
    store::{DATABASE_FILE, Store},
};

/// Enough for a command; the server has a setting for its own.
const CACHE_BYTES: usize = 16 << 20;

/// What takes longest is replacing the pepper of many millions of addresses.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Where the data is to be had.
pub enum Data {
    /// From the server that runs.
    Server(Client),
    /// From the database, which nobody else has open.
    Database(Box<Core>),
}

impl Data {
    /// Finds out whether a server runs, and opens the database if not.
    pub fn find(config: Config) -> anyhow::Result<Self> {
        if let Some(client) = server(&config)? {
            return Ok(Self::Server(client));
        }
        let database = config.data_dir.join(DATABASE_FILE);
        if !database.exists() {
            bail!("there is no database in {}; is data_dir right?", config.data_dir.display());
        }
        let genesis = || ops::genesis(SystemClock.now());
        let store = Store::open(&config.data_dir, CACHE_BYTES, &config.name(), genesis)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let core =
            runtime.block_on(Core::open(Arc::new(config), store, Arc::new(SystemClock), Arc::new(Nobody)))?;
        Ok(Self::Database(Box::new(core)))
    }

    /// Has the server that runs do a command, or does it here: `offline` is then what it does.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn run<T: DeserializeOwned>(
        self,
        path: &str,
        command: &impl Serialize,
        offline: impl AsyncFnOnce(&Core) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self {
            Self::Server(client) => {
                let answer = runtime.block_on(ask(&client, path, command))?;
                serde_json::from_value(answer)
                    .context("the server gave no usable answer: is it of another version?")
            }
            Self::Database(core) => runtime.block_on(offline(&core)),
        }
    }
}

/// A way to the server that runs; `None` if none does.
///
/// # Errors
/// If it is not certain whether one does.
pub fn server(config: &Config) -> anyhow::Result<Option<Client>> {
    let path = config.data_dir.join(CONTROL_SOCKET);
    match UnixStream::connect(&path) {
        Ok(_) => {
            // Only the first call installs it.
            let _ = rustls::crypto::ring::default_provider().install_default();
            Ok(Some(Client::builder().unix_socket(path).timeout(PATIENCE).build()?))
        }
        // Nobody listens, or nobody ever did.
        Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot reach the server at {}", path.display())),
    }
}

/// A command asks no homeserver anything.
struct Nobody;

impl Homeservers for Nobody {
    fn token_owner<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a OpenIdToken,
    ) -> BoxFuture<'a, Result<UserId, HomeserverError>> {
        Box::pin(async { Err(HomeserverError::Unreachable) })
    }

    fn signing_keys<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Arc<PublicKeys>, HomeserverError>> {
        Box::pin(async { Err(HomeserverError::Unreachable) })
    }
}

/// Asks the server that runs.
///
/// # Errors
/// What the server says is wrong, in its words.
pub async fn ask(client: &Client, path: &str, body: &impl Serialize) -> anyhow::Result<Value> {
    let request = client.post(format!("http://control{path}")).body(serde_json::to_vec(body)?);
    let response = request.send().await.context("the server does not answer on its socket")?;
    let is_good = response.status().is_success();
    let answer: Value = serde_json::from_slice(&response.bytes().await?)
        .context("the server gave no usable answer: is it of another version?")?;
    if !is_good {
        bail!("{}", answer["error"].as_str().unwrap_or("the server refused"));
    }
    Ok(answer)
}
