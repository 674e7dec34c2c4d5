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
pub mod metrics;
mod pages;
mod routes;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, HttpServer,
    dev::{Server, Service},
    web,
};

pub use self::pages::notice_texts;
use self::{counting::Counting, error::ApiError, pages::Pages};
use crate::{
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
        let finished = self.background.spawn(work).await;
        let finished = finished.map_err(|error| {
            tracing::error!(%error, "the work of a request panicked or was stopped; the caller gets 500");
            ApiError::Internal
        })?;
        finished.map_err(Into::into)
    }
}

/// The most connections of a worker. Even a small machine has enough memory for this many small bodies.
const MAX_CONNECTIONS: usize = 2048;

/// Starts to serve on `listeners`.
///
/// # Errors
/// If a listener does not work.
pub fn serve(state: web::Data<State>, listeners: Vec<TcpListener>) -> std::io::Result<Server> {
    let workers = match state.core.config.http.workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        chosen => chosen,
    };
    let has_delegation = !state.core.config.delegation.allowed_networks.is_empty();
    let app = move || {
        let counting = Counting::new(state.clone());
        App::new()
            .app_data(state.clone())
            .wrap_fn(move |request, service| {
                let arrived = counting.arrived(&request);
                let answer = service.call(request);
                async move {
                    let answer = answer.await;
                    arrived.answered(&answer);
                    answer
                }
            })
            .configure(|app| routes::configure(app, has_delegation))
    };
    let mut server = HttpServer::new(app)
        .workers(workers)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(Duration::from_secs(10))
        .client_disconnect_timeout(Duration::from_secs(2))
        .keep_alive(Duration::from_secs(75))
        .shutdown_timeout(30)
        .disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}
