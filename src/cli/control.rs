//! How the operator's commands reach the data: through the socket of the server that runs, or by
//! opening the database if none does.

use std::{io::ErrorKind, os::unix::net::UnixStream, time::Duration};

use anyhow::{Context, bail};
use reqwest::Client;
use serde::Serialize;
use serde_json::Value;

use crate::{
    app::{CONTROL_SOCKET, SystemClock},
    config::Config,
    ops::{self, Clock},
    store::{DATABASE_FILE, Store},
};

/// Enough for a command; the server has a setting for its own.
const CACHE_BYTES: usize = 16 << 20;

/// Where the data is to be had.
pub enum Data {
    /// From the server that runs.
    Server(Client),
    /// From the database, which nobody else has open.
    Database(Store),
}

impl Data {
    /// Finds out whether a server runs, and opens the database if not.
    pub fn find(config: &Config) -> anyhow::Result<Self> {
        let path = config.data_dir.join(CONTROL_SOCKET);
        match UnixStream::connect(&path) {
            Ok(_) => {
                // Only the first call installs it.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let client = Client::builder().unix_socket(path).timeout(Duration::from_secs(60)).build()?;
                Ok(Self::Server(client))
            }
            // Nobody listens, or nobody ever did.
            Err(error) if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                let database = config.data_dir.join(DATABASE_FILE);
                if !database.exists() {
                    bail!("there is no database in {}; is data_dir right?", config.data_dir.display());
                }
                let genesis = || ops::genesis(SystemClock.now());
                Ok(Self::Database(Store::open(&config.data_dir, CACHE_BYTES, &config.name(), genesis)?))
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot reach the server at {}", path.display()))
            }
        }
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
