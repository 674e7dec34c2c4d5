//! Composition: the store, the homeservers, mail, the tasks and the listeners become a running server, which
//! is drained and closed when it is told to stop.
//!
//! Everything is bound and checked in `build`; `run_until` only waits. No rule lives here.

use std::{
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix_web::{dev::Server, web};
use anyhow::Context;
use tokio::{runtime::Runtime, sync::watch, time::timeout};

use crate::{
    config::Config,
    domain::{clock::Clock, time::Millis},
    http,
    ops::{self, Core},
    remote::{
        discovery::{Discovery, Ports},
        dns::Dns,
        fetch::Fetch,
        homeservers::RemoteHomeservers,
        mail::Mailer,
        sms::SmsGateway,
    },
    store::Store,
    tasks::Tasks,
};

/// The name of the operator's socket in the data directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else must use")]
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
    /// How often tasks look at the clock.
    pub tick: Duration,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            dns: None,
            ports: Ports::default(),
            tick: Duration::from_secs(1),
        }
    }
}

/// A server that is bound and ready.
pub struct Application {
    state: web::Data<http::State>,
    core: Arc<Core>,
    listeners: Vec<TcpListener>,
    metrics_listeners: Vec<TcpListener>,
    control: UnixListener,
    tasks: Tasks,
    background: Runtime,
}

impl Application {
    /// Opens the database, checks everything that the configuration names, and binds. Must not be called on a
    /// runtime: it has its own and waits for it.
    ///
    /// # Errors
    /// Whatever keeps the server from starting, in words for the operator.
    pub fn build(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        let Surroundings { clock, dns, ports, tick } = surroundings;
        let config = Arc::new(config);
        let background = background_runtime()?;
        let Outward { mailer, sms, fetch } = outward(&config)?;
        let (mailer, sms) = (Arc::new(mailer), Arc::new(sms));
        let cache = config.store.cache_mib << 20;
        let genesis = || ops::genesis(clock.now());
        let store = Store::open(&config.data_dir, cache, &config.name(), genesis)?;
        publish_notice(&config, &store, clock.now(), &background)?;
        let homeservers = {
            let _entered = background.enter();
            let dns = dns.map_or_else(Dns::system, Ok)?;
            let exceptions = config.homeservers.allowed_special_addresses.clone();
            let patience = config.homeserver_timeout();
            let discovery = Discovery::new(fetch.clone(), dns, exceptions, ports, clock.clone(), patience);
            Arc::new(RemoteHomeservers::new(discovery, fetch, clock.clone(), patience))
        };
        let core =
            Arc::new(background.block_on(Core::open(config.clone(), store, clock, homeservers.clone()))?);
        core.logs.start(tick).context("cannot use the folder logs in data_dir")?;
        let state = http::State::new(core.clone(), mailer.clone(), sms.clone(), background.handle().clone())?;
        let tasks = Tasks { core: core.clone(), homeservers, mailer, sms, tick };
        let listeners = bind("http.listen", &config.http.listen)?;
        let metrics_listeners = bind("http.metrics_listen", &config.http.metrics_listen)?;
        let control = control_socket(&config.data_dir)?;
        let state = web::Data::new(state);
        Ok(Self { state, core, listeners, metrics_listeners, control, tasks, background })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        addresses_of(&self.listeners)
    }

    /// Where it shows what monitoring may count.
    pub fn metrics_addresses(&self) -> Vec<SocketAddr> {
        addresses_of(&self.metrics_listeners)
    }

    /// Answers requests until `stop` is ready, then finishes those that have begun and closes the
    /// database.
    ///
    /// # Errors
    /// If the listeners fail, or the disk: a server that can store nothing ends, so that whoever
    /// watches over it notices and starts it again.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { state, core, listeners, metrics_listeners, control, tasks, background } = self;
        let stored = core.clone();
        let patience = farewell(&core.config);
        let (stop_tasks, stopped) = watch::channel(false);
        let tasks = background.spawn(tasks.run(stopped));
        let served = actix_web::rt::System::new().block_on(async move {
            let server = http::serve(state.clone(), listeners)?;
            let handle = server.handle();
            let running = actix_web::rt::spawn(server);
            let mut beside = vec![http::control::serve(state.clone(), control)?];
            if !metrics_listeners.is_empty() {
                beside.push(http::metrics::serve(state, metrics_listeners)?);
            }
            let beside_handles: Vec<_> = beside.iter().map(Server::handle).collect();
            for server in beside {
                drop(actix_web::rt::spawn(server));
            }
            let broken = tokio::select! {
                () = stop => false,
                () = stored.store_failed() => true,
            };
            tracing::info!("stopping: no new requests, those under way are finished");
            for beside in beside_handles {
                beside.stop(true).await;
            }
            handle.stop(true).await;
            running.await??;
            anyhow::ensure!(!broken, "the database takes nothing any more: check the disk, then start again");
            Ok(())
        });
        // What is being sent gets time to be acknowledged, or it would be sent again.
        let _ = stop_tasks.send(true);
        let _ = background.block_on(async { timeout(patience, tasks).await });
        background.shutdown_timeout(Duration::from_secs(5));
        core.logs.close();
        // The last one to let go of the store closes the database.
        drop(core);
        served
    }
}

/// How long the tasks may take to end: as long as a mail may take, and then it is written down.
fn farewell(config: &Config) -> Duration {
    Duration::from_secs(u64::from(config.mail.smtp.timeout_seconds.get()) + 5)
}

/// Checks what a configuration names outside itself: templates, certificates, passwords.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> anyhow::Result<()> {
    outward(config).map(|_| ())
}

/// Publishes the privacy notice that belongs to the configuration, if it says something new.
fn publish_notice(config: &Config, store: &Store, now: Millis, background: &Runtime) -> anyhow::Result<()> {
    let notice = config.notice();
    let texts = http::notice_texts(&notice)?;
    Ok(background.block_on(ops::privacy_notice::publish(store, notice.facts, texts, now))?)
}

/// The runtime that everything slow runs on.
fn background_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("background")
        .enable_all()
        .build()
}

/// The ways out.
struct Outward {
    mailer: Mailer,
    sms: SmsGateway,
    fetch: Arc<Fetch>,
}

fn outward(config: &Config) -> anyhow::Result<Outward> {
    let fetch =
        Fetch::new(config.homeservers.extra_ca_file.as_deref()).context("homeservers.extra_ca_file")?;
    Ok(Outward { mailer: Mailer::new(config)?, sms: SmsGateway::new(config)?, fetch: Arc::new(fetch) })
}

fn bind(key: &str, addresses: &[String]) -> anyhow::Result<Vec<TcpListener>> {
    let bind = |address: &String| {
        let cannot = || format!("cannot listen on {address}; is another server there? ({key})");
        TcpListener::bind(address).with_context(cannot)
    };
    addresses.iter().map(bind).collect()
}

fn addresses_of(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

/// The operator's socket, in place of one that a crash left behind: the lock on the directory says
/// that nobody else serves there.
fn control_socket(data_dir: &Path) -> anyhow::Result<UnixListener> {
    let path = data_dir.join(CONTROL_SOCKET);
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).with_context(|| format!("cannot create the socket {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_under_way_is_waited_for() {
        let mut config = Config::default();
        for seconds in [1, 20, 300].map(std::num::NonZeroU32::new) {
            config.mail.smtp.timeout_seconds = seconds.expect("not zero");
            assert!(farewell(&config) > Duration::from_secs(config.mail.smtp.timeout_seconds.get().into()));
        }
    }
}
