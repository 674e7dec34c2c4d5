//! Composition: the store, the homeservers, mail and the listeners become a running server, which
//! is drained and closed when it is told to stop.
//!
//! Everything is bound and checked in `build`; `run_until` only waits. No rule lives here.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::web;
use anyhow::Context;

use crate::{
    config::Config,
    domain::time::Millis,
    http,
    ops::{self, Clock, Core},
    remote::{
        discovery::{Discovery, Ports},
        dns::Dns,
        fetch::Fetch,
        homeservers::RemoteHomeservers,
        mail::Mailer,
    },
    store::Store,
};

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Millis(crate::domain::time::as_millis(since_epoch))
    }
}

/// What tests put in place of the real world.
pub struct Surroundings {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Resolves names; the system's resolver if there is none.
    pub dns: Option<Dns>,
    /// The ports of the protocol.
    pub ports: Ports,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), dns: None, ports: Ports::default() }
    }
}

/// A server that is bound and ready.
pub struct Application {
    state: web::Data<http::State>,
    core: Arc<Core>,
    listeners: Vec<TcpListener>,
    background: tokio::runtime::Runtime,
}

impl Application {
    /// Opens the database, checks everything that the configuration names, and binds.
    ///
    /// # Errors
    /// Whatever keeps the server from starting, in words for the operator.
    pub fn build(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        let Surroundings { clock, dns, ports } = surroundings;
        let config = Arc::new(config);
        let background = background_runtime()?;
        let (mailer, fetch) = outward(&config)?;
        let cache = config.store.cache_mib << 20;
        let genesis = || ops::genesis(clock.now());
        let store = Store::open(&config.data_dir, cache, &config.name(), genesis)?;
        let homeservers = {
            let _entered = background.enter();
            let dns = dns.map_or_else(Dns::system, Ok)?;
            let exceptions = config.homeservers.allowed_special_addresses.clone();
            let patience = config.homeserver_timeout();
            let discovery = Discovery::new(fetch.clone(), dns, exceptions, ports, clock.clone(), patience);
            RemoteHomeservers::new(discovery, fetch, clock.clone(), patience)
        };
        let core = Arc::new(Core::new(config.clone(), store, clock, Arc::new(homeservers))?);
        let state = http::State::new(core.clone(), mailer, background.handle().clone())?;
        let bind = |address: &String| {
            let cannot = || format!("cannot listen on {address}; is another server there? (http.listen)");
            TcpListener::bind(address).with_context(cannot)
        };
        let listeners = config.http.listen.iter().map(bind).collect::<anyhow::Result<_>>()?;
        Ok(Self { state: web::Data::new(state), core, listeners, background })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Answers requests until `stop` is ready, then finishes those that have begun and closes the
    /// database.
    ///
    /// # Errors
    /// If the listeners fail, or the disk: a server that can store nothing ends, so that whoever
    /// watches over it notices and starts it again.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { state, core, listeners, background } = self;
        let stored = core.clone();
        let served = actix_web::rt::System::new().block_on(async move {
            let server = http::serve(state, listeners)?;
            let handle = server.handle();
            let running = actix_web::rt::spawn(server);
            let broken = tokio::select! {
                () = stop => false,
                () = stored.store.broken() => true,
            };
            tracing::info!("stopping: no new requests, those under way are finished");
            handle.stop(true).await;
            running.await??;
            anyhow::ensure!(!broken, "the database takes nothing any more: check the disk, then start again");
            Ok(())
        });
        background.shutdown_timeout(Duration::from_secs(5));
        // The last one to let go of the store closes the database.
        drop(core);
        served
    }
}

/// Checks what a configuration names outside itself: templates, certificates, passwords.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> anyhow::Result<()> {
    outward(config).map(|_| ())
}

/// The runtime that everything slow runs on.
fn background_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("background")
        .enable_all()
        .build()
}

/// The ways out.
fn outward(config: &Config) -> anyhow::Result<(Mailer, Arc<Fetch>)> {
    let fetch = Fetch::new(config.homeservers.extra_ca_file.as_deref());
    Ok((Mailer::new(config)?, Arc::new(fetch.context("homeservers.extra_ca_file")?)))
}
