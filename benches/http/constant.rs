//! The yardstick: a handler that reads the same request body and returns a constant, in the same
//! actix configuration as `http::serve`, in a process of its own.

use std::{net::Ipv4Addr, time::Duration};

use actix_web::{App, HttpResponse, HttpServer, http::header::ContentType, web};
use rustix::process::{Signal, set_parent_process_death_signal};

/// The argument that makes the benchmark this server instead.
pub const MODE: &str = "--constant";

/// Serves until the process is ended.
pub fn serve(port: u16) -> anyhow::Result<()> {
    // Nobody would end it after a benchmark that was killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let app = || {
        App::new()
            .app_data(web::PayloadConfig::new(512 * 1024))
            .route("/_matrix/identity/v2/lookup", web::post().to(lookup))
            .route("/_matrix/identity/v2", web::get().to(HttpResponse::Ok))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .client_request_timeout(Duration::from_secs(10))
        .client_disconnect_timeout(Duration::from_secs(2))
        .keep_alive(Duration::from_secs(75))
        .disable_signals()
        .bind((Ipv4Addr::LOCALHOST, port))?
        .run();
    Ok(actix_web::rt::System::new().block_on(server)?)
}

async fn lookup(body: web::Bytes) -> HttpResponse {
    std::hint::black_box(body.len());
    HttpResponse::Ok().content_type(ContentType::json()).body(r#"{"mappings":{}}"#)
}
