//! The HTTP server: routes, request parsing, and answers.
//!
//! A handler reads a wire type, parses it into domain values, calls one operation and writes a wire type. `ops`
//! decides what each caller may do, and `domain` holds the rules. `routes` lists all routes.

mod api;
mod body;
mod caller;
pub mod control;
mod counting;
mod error;
mod health;
pub mod metrics;
mod pages;
mod request_id;
mod routes;
mod workers;

use std::{net::TcpListener, os::unix::net::UnixListener, sync::Arc, thread, time::Duration};

use actix_web::{
    App, HttpServer,
    dev::{Server, Service},
    web,
};
use rustls::ServerConfig;

use self::{counting::Counting, error::ApiError, pages::Pages};
pub use self::{
    pages::notice_texts,
    request_id::RequestId,
    workers::{WORKER_PART, Workers},
};
use crate::{
    config::Config,
    ops::Core,
    remote::{mail::Mailer, sms::SmsGateway},
};

/// The state that all handlers share.
pub struct State {
    core: Arc<Core>,
    mailer: Arc<Mailer>,
    sms: Arc<SmsGateway>,
    pages: Pages,
    background: tokio::runtime::Handle,
}

impl State {
    /// `background` is the runtime for slow work: network, mail, signatures.
    ///
    /// # Errors
    /// If a built-in page does not load.
    pub fn new(
        core: Arc<Core>,
        mailer: Arc<Mailer>,
        sms: Arc<SmsGateway>,
        background: tokio::runtime::Handle,
    ) -> anyhow::Result<Self> {
        let pages = Pages::load(&core.config)?;
        Ok(Self { core, mailer, sms, pages, background })
    }

    /// Runs slow work on the background runtime, so that other requests on this thread do not wait for it.
    async fn off_thread<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let finished = self.background.spawn(request_id::in_current(RequestId::current(), work)).await;
        let finished = finished.map_err(|_panic| {
            tracing::error!("a request failed because its work panicked; the line before says where");
            ApiError::Internal
        })?;
        finished.map_err(Into::into)
    }
}

/// How many threads answer requests.
pub fn worker_threads(config: &Config) -> usize {
    match config.http.workers {
        0 => thread::available_parallelism().map_or(2, usize::from),
        chosen => chosen,
    }
}

/// The head of a request may take this long, and before it a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The sockets on which clients are served.
pub struct Listeners {
    /// In the clear.
    pub tcp: Vec<TcpListener>,
    /// For a reverse proxy on this machine.
    pub unix: Vec<UnixListener>,
    /// With this TLS.
    pub tls: Option<(Vec<TcpListener>, ServerConfig)>,
}

/// Makes the server that answers on `listeners` while it is polled. Its workers join `workers` when they start.
///
/// # Errors
/// If a listener cannot be used.
pub fn serve(
    state: web::Data<State>,
    Listeners { tcp, unix, tls }: Listeners,
    workers: Workers,
    connections_per_worker: usize,
) -> std::io::Result<Server> {
    let threads = worker_threads(&state.core.config);
    let has_delegation = !state.core.config.delegation.allowed_networks.is_empty();
    let app = move || {
        workers.add_this_thread();
        let counting = Counting::new(state.clone());
        App::new()
            .app_data(state.clone())
            .wrap_fn(move |request, service| {
                let arrived = counting.arrived(&request);
                let id = arrived.id;
                let answer = id.sync_scope(|| service.call(request));
                async move {
                    let mut answer = id.scope(answer).await;
                    arrived.answered(&answer);
                    if let Ok(answer) = &mut answer {
                        answer.headers_mut().insert(request_id::HEADER.clone(), id.header());
                    }
                    answer
                }
            })
            .configure(|app| routes::configure(app, has_delegation))
    };
    let mut server = HttpServer::new(app)
        .workers(threads)
        .max_connections(connections_per_worker)
        // A handshake takes a place like any other connection. A lower limit here would make all listeners wait.
        .max_connection_rate(connections_per_worker)
        .tls_handshake_timeout(HEAD_TIMEOUT)
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(Duration::from_secs(2))
        .keep_alive(Duration::from_secs(75))
        .shutdown_timeout(30)
        .on_connect(caller::mark_unix_socket)
        .disable_signals();
    for listener in tcp {
        server = server.listen(listener)?;
    }
    for listener in unix {
        server = server.listen_uds(listener)?;
    }
    if let Some((listeners, tls)) = tls {
        for listener in listeners {
            server = server.listen_rustls_0_23(listener, tls.clone())?;
        }
    }
    Ok(server.run())
}
