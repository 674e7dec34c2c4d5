//! Serves `GET /metrics` on listeners of its own, so that a reverse proxy does not publish it by accident.

use std::net::TcpListener;

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Server,
    web::{self, Data},
};

use super::State;

/// Starts to serve on `listeners`.
///
/// # Errors
/// If a listener does not work.
pub fn serve(state: Data<State>, listeners: Vec<TcpListener>) -> std::io::Result<Server> {
    let app = move || App::new().app_data(state.clone()).route("/metrics", web::get().to(metrics));
    let mut server = HttpServer::new(app).workers(1).max_connections(64).disable_signals();
    for listener in listeners {
        server = server.listen(listener)?;
    }
    Ok(server.run())
}

async fn metrics(state: Data<State>) -> HttpResponse {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    HttpResponse::Ok().content_type(media_type).body(state.core.metrics.text())
}
