//! Composition: the store, the homeservers, mail, the tasks and the listeners become a running server, which is
//! supervised, drained and closed.
//!
//! Everything is bound and checked in `build`; `run_until` only waits. No rule lives here.

mod activation;
mod announcement;
mod certificate;
mod descriptors;
mod listeners;
mod reload;
mod supervisor;
mod systemd;
mod unix_socket;

use std::{
    future::pending,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use actix_web::{dev::Server, web};
use anyhow::{Context, bail, ensure};
use futures_util::{FutureExt, future::join_all};
use rustls::ServerConfig;
use tokio::{runtime::Runtime, sync::watch};

pub use self::{activation::PassedSockets, listeners::CONTROL_SOCKET, reload::Reload, systemd::Reloading};
use self::{
    certificate::Certificate,
    listeners::{Address, Listeners},
    supervisor::Supervisor,
    unix_socket::SocketFile,
};
use crate::{
    config::{Config, ConfigError, MAX_SOCKET_PATH},
    domain::{clock::Clock, time::Millis},
    http::{self, WORKER_PART, Workers},
    logs,
    ops::{self, Core},
    parts,
    remote::{
        discovery::{Discovery, Ports},
        dns::Dns,
        fetch::Fetch,
        homeservers::RemoteHomeservers,
        mail::Mailer,
        sms::SmsGateway,
    },
    store::{self, Store},
    tasks::Tasks,
};

/// How long what still runs on the background runtime may take to end after everything else has ended.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often, and how many times, the end looks whether it alone holds the database.
const CLOSE_INTERVAL: Duration = Duration::from_millis(5);
const CLOSE_ATTEMPTS: u32 = 1000;

/// The part that finds out when the server is ready, and then whether it is alive.
const HEALTH_PART: &str = "health check";

/// The system's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else must use")]
    fn now(&self) -> Millis {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Millis(crate::domain::time::as_millis(since_epoch))
    }
}

/// The outside world; tests put their own in its place.
pub struct Environment {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Resolves names; the system's resolver if there is none.
    pub dns: Option<Arc<Dns>>,
    /// The ports of the protocol.
    pub ports: Ports,
    /// How often tasks read the clock.
    pub tick: Duration,
    /// Whether the server may begin with a new database where an earlier one is missing.
    pub allows_new_database: bool,
    /// The sockets that the service manager has opened.
    pub sockets: PassedSockets,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            dns: None,
            ports: Ports::default(),
            tick: Duration::from_secs(1),
            allows_new_database: false,
            sockets: PassedSockets::default(),
        }
    }
}

/// A server that is bound and does not answer yet.
pub struct Application {
    core: Arc<Core>,
    servers: Vec<(&'static str, Server)>,
    workers: Workers,
    addresses: Vec<Address>,
    metrics_addresses: Vec<SocketAddr>,
    socket_files: Vec<SocketFile>,
    certificate: Option<Arc<Certificate>>,
    is_serving: watch::Sender<bool>,
    tasks: Tasks,
    supervisor: Supervisor,
    background: Runtime,
}

impl Application {
    /// Opens the database, checks everything that the configuration names, and binds. Must not be called on a
    /// runtime: it has its own and waits for it.
    ///
    /// # Errors
    /// Whatever keeps the server from starting, in words for the operator.
    pub fn build(config: Config, environment: Environment) -> anyhow::Result<Self> {
        let Environment { clock, dns, ports, tick, allows_new_database, sockets } = environment;
        if !allows_new_database {
            require_database(&config.data_dir)?;
        }
        let descriptors = descriptors::share_out(http::worker_threads(&config))?;
        let certificate = certificate::read(&config.http.tls)?.map(Certificate::new);
        let config = Arc::new(config);
        let background = background_runtime()?;
        let supervisor = Supervisor::new(background.handle().clone());
        let dns = {
            let _entered = background.enter();
            dns.unwrap_or_else(|| Arc::new(Dns::system()))
        };
        let Clients { mailer, sms, fetch } = Clients::new(&config, &dns, descriptors.requests)?;
        let store = open_store(&config, clock.now())?;
        publish_notice(&config, &store, clock.now(), &background)?;
        let homeservers = {
            let exceptions = config.homeservers.allowed_special_addresses.clone();
            let timeout = config.homeserver_timeout();
            let discovery = Discovery::new(fetch.clone(), dns, exceptions, ports, clock.clone(), timeout);
            let named = config.named_homeservers().map(str::to_owned).collect();
            let (clock, most) = (clock.clone(), descriptors.requests);
            Arc::new(RemoteHomeservers::new(discovery, fetch, clock, timeout, most, named))
        };
        let core =
            Arc::new(background.block_on(Core::open(config.clone(), store, clock, homeservers.clone()))?);
        homeservers.count_in(core.metrics.clone());
        let mailer = Arc::new(mailer.counted_in(core.metrics.clone()));
        let sms = Arc::new(sms.counted_in(core.metrics.clone()));
        let logs = core.logs.start(tick, supervisor.on_thread_end());
        logs.context("cannot use the folder logs in data_dir")?;
        let state = http::State::new(core.clone(), mailer.clone(), sms.clone(), background.handle().clone())?;
        let state = web::Data::new(state);
        let tasks = Tasks { core: core.clone(), homeservers, mailer, sms, tick };
        let listeners = Listeners::open(&config.http, sockets)?;
        let metrics = listeners::bind("http.metrics_listen", &config.http.metrics_listen)?;
        let control = listeners::bind_control(&config.data_dir)?;
        let (addresses, metrics_addresses) = (listeners.addresses(), listeners::addresses_of(&metrics));
        let workers = Workers::default();
        let Listeners { tcp, unix, tls, files: socket_files } = listeners;
        let served = http::Listeners { tcp, unix, tls: with_tls(tls, certificate.as_ref())? };
        let mut servers = vec![
            (
                "HTTP server",
                http::serve(state.clone(), served, workers.clone(), descriptors.connections_per_worker)?,
            ),
            ("control socket", http::control::serve(state.clone(), control)?),
        ];
        if !metrics.is_empty() {
            servers.push(("metrics listener", http::metrics::serve(state, metrics)?));
        }
        Ok(Self {
            core,
            servers,
            workers,
            addresses,
            metrics_addresses,
            socket_files,
            certificate,
            is_serving: watch::Sender::new(false),
            tasks,
            supervisor,
            background,
        })
    }

    /// Where it listens with TCP, in the clear and then with TLS.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let tcp = |address: &Address| match address {
            Address::Tcp(address) | Address::Tls(address) => Some(*address),
            Address::Unix(_) => None,
        };
        self.addresses.iter().filter_map(tcp).collect()
    }

    /// Where it shows what monitoring may count.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// What puts a changed configuration into effect while the server runs.
    pub fn reload(&self) -> Reload {
        Reload {
            in_force: Config::clone(&self.core.config),
            core: self.core.clone(),
            mailer: self.tasks.mailer.clone(),
            sms: self.tasks.sms.clone(),
            certificate: self.certificate.clone(),
            is_serving: self.is_serving.subscribe(),
        }
    }

    /// Answers requests until `stop` is ready or a part ends, then finishes the requests that have begun and
    /// closes the database.
    ///
    /// # Errors
    /// If a part ends before `stop` is ready, so that the service manager notices and starts the server again.
    pub fn run_until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            core,
            servers,
            workers,
            addresses,
            metrics_addresses,
            socket_files,
            certificate,
            is_serving,
            tasks,
            mut supervisor,
            background,
        } = self;
        let handles: Vec<_> = servers.iter().map(|(_, server)| server.handle()).collect();
        for (name, server) in servers {
            supervisor.watch(name, async {
                server
                    .await
                    .context("it cannot run; is the limit of open files (ulimit -n, LimitNOFILE=) too low?")
            });
        }
        if let Some(certificate) = certificate {
            let watch = certificate::watch(certificate, core.clock.clone(), tasks.tick);
            supervisor.watch_until_drain(certificate::PART, watch.map(Ok));
        }
        for (name, task) in tasks.all(&supervisor.stop()) {
            supervisor.watch(name, task.map(Ok));
        }
        watch_threads(&mut supervisor, core.clone(), workers.clone());
        let control = Address::Unix(core.config.data_dir.join(CONTROL_SOCKET));
        let others = metrics_addresses.iter().copied().map(Address::Tcp).chain([control]);
        let listening: Vec<Address> = addresses.iter().cloned().chain(others).collect();
        supervisor.watch_until_drain(HEALTH_PART, {
            let core = core.clone();
            async move {
                parts::panic_if_asked(HEALTH_PART);
                listeners::require_answers(&listening).await?;
                announcement::log_start(&core, &addresses, &metrics_addresses);
                announcement::announce(&core.config, &addresses);
                is_serving.send_replace(true);
                systemd::feed_watchdog(core, workers).await;
                pending().await
            }
        });
        let limit = tasks_shutdown_timeout(&core.config);
        let outcome = background.block_on(async {
            let outcome = tokio::select! {
                biased;
                error = supervisor.first_end() => Err(error),
                () = stop => Ok(()),
            };
            systemd::stopping();
            tracing::info!("stopping: the server takes no new requests and finishes those that have begun");
            let requests = join_all(handles.iter().map(|server| server.stop(true)));
            // The relay gets time to acknowledge a mail, or the next start would send it again.
            outcome.and(supervisor.drain(requests, limit).await)
        });
        drop(socket_files);
        background.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
        core.logs.close();
        close_database(core);
        outcome
    }
}

/// The listeners with TLS, and the TLS that they use.
fn with_tls(
    listeners: Vec<TcpListener>,
    certificate: Option<&Arc<Certificate>>,
) -> anyhow::Result<Option<(Vec<TcpListener>, ServerConfig)>> {
    match (certificate, listeners.is_empty()) {
        (None, true) => Ok(None),
        (Some(certificate), false) => Ok(Some((listeners, certificate.tls()?))),
        (None, false) => Err(ConfigError(vec![
            "the service manager passes a socket with the name 'tls': set http.tls.certificate_file and http.tls.key_file".to_owned(),
        ])
        .into()),
        (Some(_), true) => {
            tracing::warn!(
                "http.tls.certificate_file is set, but the server listens nowhere with TLS: set http.tls.listen"
            );
            Ok(None)
        }
    }
}

/// Watches the threads that no task of the supervisor runs on.
fn watch_threads(supervisor: &mut Supervisor, core: Arc<Core>, workers: Workers) {
    supervisor.watch_until_drain(store::WRITER_PART, async move {
        core.store_failed().await;
        bail!("the database takes no more writes; check whether the disk is full or broken, then start again")
    });
    supervisor.watch_until_drain(WORKER_PART, async move {
        workers.ended().await;
        bail!("a thread that answers requests has ended")
    });
}

/// Closes the database. The HTTP library says that a worker has stopped a moment before the worker lets go of it.
fn close_database(mut core: Arc<Core>) {
    for _ in 0..CLOSE_ATTEMPTS {
        match Arc::try_unwrap(core) {
            Ok(core) => return drop(core),
            Err(shared) => core = shared,
        }
        thread::sleep(CLOSE_INTERVAL);
    }
    tracing::warn!("the database is still in use and is not closed; the next start repairs it");
}

/// How long the tasks may take to end: one SMTP timeout, plus time to record the result.
fn tasks_shutdown_timeout(config: &Config) -> Duration {
    Duration::from_secs(u64::from(config.mail.smtp.timeout_seconds.get()) + 5)
}

/// Checks what a configuration names outside itself: templates, certificates, passwords.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> anyhow::Result<()> {
    let socket = config.data_dir.join(CONTROL_SOCKET);
    ensure!(
        socket.as_os_str().len() <= MAX_SOCKET_PATH,
        "data_dir: {} is too long for the operator's socket in it, whose path may have {MAX_SOCKET_PATH} bytes; choose a shorter one",
        config.data_dir.display()
    );
    certificate::read(&config.http.tls)?;
    Clients::new(config, &Arc::new(Dns::system()), 1).map(|_| ())
}

/// Refuses to begin with new keys where an earlier database is missing: nobody could be found any more, and pending
/// invitations would be worthless.
fn require_database(data_dir: &Path) -> anyhow::Result<()> {
    if store::is_missing(data_dir) && logs::exist(data_dir) {
        bail!(
            "there is no database in {}, but there are logs of an earlier one: restore {} from a backup, or begin with an empty database and new keys: bindery serve --new",
            data_dir.display(),
            store::DATABASE_FILE
        );
    }
    Ok(())
}

fn open_store(config: &Config, now: Millis) -> anyhow::Result<Store> {
    let cache = config.store.cache_mib << 20;
    let is_new = store::is_missing(&config.data_dir);
    let open = || Store::open(&config.data_dir, cache, &config.name(), || ops::genesis(now));
    let store = systemd::extend_start_timeout(open)?;
    if is_new {
        tracing::warn!(
            data_dir = %config.data_dir.display(),
            "a new database was created, with new keys and a new pepper; if there was one before, stop the server and restore it from a backup"
        );
    }
    Ok(store)
}

/// Publishes the privacy notice that belongs to the configuration, if it says something new.
fn publish_notice(config: &Config, store: &Store, now: Millis, background: &Runtime) -> anyhow::Result<()> {
    let notice = config.notice();
    let texts = http::notice_texts(&notice)?;
    Ok(background.block_on(ops::privacy_notice::publish(store, notice.facts, texts, now))?)
}

/// The runtime of everything that would make requests wait.
fn background_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("background")
        .enable_all()
        .build()
}

/// What connects to others.
struct Clients {
    mailer: Mailer,
    sms: SmsGateway,
    fetch: Arc<Fetch>,
}

impl Clients {
    fn new(config: &Config, dns: &Arc<Dns>, max_requests: usize) -> anyhow::Result<Self> {
        let fetch = Fetch::new(config.homeservers.extra_ca_file.as_deref(), max_requests)
            .context("homeservers.extra_ca_file")?;
        let (mailer, sms) = (Mailer::new(config, dns.clone())?, SmsGateway::new(config, dns.clone())?);
        Ok(Self { mailer, sms, fetch: Arc::new(fetch) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_under_way_is_waited_for() {
        let mut config = Config::default();
        for seconds in [1, 20, 300].map(std::num::NonZeroU32::new) {
            config.mail.smtp.timeout_seconds = seconds.expect("not zero");
            assert!(
                tasks_shutdown_timeout(&config)
                    > Duration::from_secs(config.mail.smtp.timeout_seconds.get().into())
            );
        }
    }
}
