//! Serves `GET /metrics`, `/health` and `/ready` on listeners of their own, so that a reverse proxy does not publish
//! them by accident.

use std::net::TcpListener;

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    web::{self, Data},
};

use super::{State, health};
use crate::ops::monitoring;

/// Starts to serve on `listeners`.
///
/// # Errors
/// If a listener does not work.
pub fn serve(state: Data<State>, listeners: Vec<TcpListener>) -> std::io::Result<Server> {
    let app = move || {
        App::new()
            .app_data(state.clone())
            .route("/metrics", web::get().to(metrics))
            .configure(health::configure)
    };
    let mut server = HttpServer::new(app).workers(1).max_connections(64).disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

async fn metrics(state: Data<State>) -> HttpResponse {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    // If the database cannot be read, the other metrics say why.
    let observed = monitoring::observe(&state.core).await.inspect_err(|error| {
        tracing::error!(%error, "the database could not be read for the metrics");
    });
    HttpResponse::Ok().content_type(media_type).body(state.core.metrics.text(observed.ok().as_ref()))
}
