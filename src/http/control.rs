//! The control socket: runs the commands of `admin` on the running server. There is no login: the
//! socket is in the data directory, which only the operator can open (design, P19).

use std::{os::unix::net::UnixListener, time::Duration};

use actix_web::{
    App, HttpServer,
    dev::Server,
    web::{self, Data, Json, ServiceConfig},
};
use serde_json::Value;

use super::{State, body::Body, error::ApiError, health};
use crate::{
    admin::{
        CancelInvitations, CheckSuppression, Command, Erase, Export, GetBackupProgress, GetRetentionStatus,
        GetStatus, LiftSuppression, MakeBackup, NoteLogReading, PlanTerms, PreviewErasure, ReadAudit,
        RotatePepper, RunRetention,
    },
    domain::refusal::Refusal,
    ops::Failure,
};

/// How long a stopping server waits for the answers to commands.
const SHUTDOWN_SECONDS: u64 = 5;

/// Starts to answer on `listener`.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve(state: Data<State>, listener: UnixListener) -> std::io::Result<Server> {
    let app = move || App::new().app_data(state.clone()).configure(routes);
    let server = HttpServer::new(app)
        .workers(1)
        .max_connections(16)
        .client_request_timeout(Duration::from_secs(10))
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    Ok(server.listen_uds(listener)?.run())
}

fn routes(app: &mut ServiceConfig) {
    add::<CancelInvitations>(app);
    add::<CheckSuppression>(app);
    add::<Erase>(app);
    add::<Export>(app);
    add::<GetBackupProgress>(app);
    add::<GetRetentionStatus>(app);
    add::<GetStatus>(app);
    add::<LiftSuppression>(app);
    add::<MakeBackup>(app);
    add::<NoteLogReading>(app);
    add::<PlanTerms>(app);
    add::<PreviewErasure>(app);
    add::<ReadAudit>(app);
    add::<RotatePepper>(app);
    add::<RunRetention>(app);
    health::configure(app);
    app.default_service(web::to(async || Err::<&str, _>(ApiError::UnknownPath)));
}

fn add<C: Command>(app: &mut ServiceConfig) {
    app.route(C::PATH, web::post().to(run::<C>));
}

/// Runs a command on the background runtime, so that it goes on if the caller hangs up.
async fn run<C: Command>(state: Data<State>, body: Body) -> Result<Json<C::Answer>, ApiError> {
    let command: C = parse(body.bytes())?;
    let core = state.core.clone();
    let answer = state.off_thread(async move { command.run(&core).await.map_err(for_operator) }).await;
    answer.map(Json)
}

/// Adds the cause of an internal error. Only the operator sees these answers.
fn for_operator(failure: Failure) -> ApiError {
    let cause = failure.to_string();
    match ApiError::from(failure) {
        ApiError::Internal => ApiError::CommandFailed(cause),
        refused => refused,
    }
}

/// Parses a command. Unlike the API, the answer quotes what is wrong: the caller is the operator.
fn parse<C: Command>(body: &[u8]) -> Result<C, ApiError> {
    let json: Value = serde_json::from_slice(body).map_err(|_| ApiError::NotJson)?;
    serde_json::from_value(json).map_err(|error| Refusal::InvalidParam(error.to_string()).into())
}
