//! The routes of all endpoints and pages.
//!
//! By the specification and the design (section 4, rule 1), these need no access token: versions, ping,
//! register, GET terms, pubkey, GET submitToken, sign-ed25519 of version 1, unbind (which carries its own proof), the
//! schema of exports, and the pages. The version 1 routes for homeservers admit them by IP address. All other handlers
//! take an account (logout takes its token), so they cannot run without one.

use actix_web::{
    HttpRequest, HttpResponse, Resource, ResponseError, Route, guard,
    http::{
        Method,
        header::{self, HeaderValue},
    },
    middleware::DefaultHeaders,
    web::{self, ServiceConfig, post},
};

use super::{
    api::{
        account, association, delegation, invitation, lookup, phone, pubkey, rights, status, terms,
        validation,
    },
    error::ApiError,
    pages::{self, me, stop},
};

/// Answers are personal unless a handler sets another `Cache-Control`. A new endpoint, a refusal or an error cannot
/// forget it.
const NO_STORE: (&str, &str) = ("Cache-Control", "no-store");

/// Mounts all routes. The routes for homeservers are mounted only if the operator names homeservers.
pub fn configure(app: &mut ServiceConfig, has_delegation: bool) {
    // One scope for all of it, because each scope adds a routing step to every request.
    let api = web::scope("/_matrix/identity")
        .wrap(cors_headers().add(NO_STORE))
        .service(at("/v2/lookup", "POST").route(post().to(lookup::lookup)))
        .service(at("/v2/hash_details", "GET, HEAD").route(get().to(lookup::hash_details)))
        .service(at("/v2/account/register", "POST").route(post().to(account::register)))
        .service(at("/v2/account", "GET, HEAD").route(get().to(account::account)))
        .service(at("/v2/account/logout", "POST").route(post().to(account::logout)))
        .service(
            at("/v2/terms", "GET, HEAD, POST").route(get().to(terms::terms)).route(post().to(terms::accept)),
        )
        .service(at("/v2/pubkey/isvalid", "GET, HEAD").route(get().to(pubkey::is_valid)))
        .service(at("/v2/pubkey/ephemeral/isvalid", "GET, HEAD").route(get().to(pubkey::ephemeral_is_valid)))
        .service(at("/v2/pubkey/{key_id}", "GET, HEAD").route(get().to(pubkey::key)))
        .service(at("/v2/validate/email/requestToken", "POST").route(post().to(validation::request_token)))
        .service(at("/v2/validate/msisdn/requestToken", "POST").route(post().to(phone::request_token)))
        .service(
            // No HEAD: this GET validates the address.
            at("/v2/validate/{medium:email|msisdn}/submitToken", "GET, POST")
                .route(web::get().to(validation::submit_token_by_link))
                .route(post().to(validation::submit_token)),
        )
        .service(at("/v2/3pid/getValidated3pid", "GET, HEAD").route(get().to(validation::validated_address)))
        .service(at("/v2/3pid/bind", "POST").route(post().to(association::bind)))
        .service(at("/v2/3pid/unbind", "POST").route(post().to(association::unbind)))
        .service(at("/v2/store-invite", "POST").route(post().to(invitation::store_invite)))
        .service(at("/v2/sign-ed25519", "POST").route(post().to(invitation::sign)))
        .service(at("/v2", "GET, HEAD").route(get().to(status::ping)))
        .service(at("/v2/", "GET, HEAD").route(get().to(status::ping)))
        .configure(version_1)
        .configure(|api| {
            if has_delegation {
                delegated(api)
            }
        })
        .service(at("/versions", "GET, HEAD").route(get().to(status::versions)))
        .default_service(web::to(unknown_path));
    let pages = web::scope("")
        .wrap(DefaultHeaders::new().add(NO_STORE))
        .service(at("/", "GET, HEAD").route(get().to(pages::front)))
        .service(
            at("/c/{word}", "GET, HEAD, POST").route(get().to(pages::ask)).route(post().to(pages::decide)),
        )
        .service(
            at("/stop/{token}", "GET, HEAD, POST").route(get().to(stop::show)).route(post().to(stop::decide)),
        )
        .service(at("/privacy", "GET, HEAD").route(get().to(pages::editions)))
        .service(at("/privacy/{language:en|fr|de|es}", "GET, HEAD").route(get().to(pages::in_force)))
        .service(at("/privacy/{name}/{language}", "GET, HEAD").route(get().to(pages::text)))
        .service(at("/.well-known/security.txt", "GET, HEAD").route(get().to(pages::security_txt)))
        .service(at("/me", "GET, HEAD, POST").route(get().to(me::ask)).route(post().to(me::send)))
        .service(
            at("/me/visit/{token}", "GET, HEAD, POST")
                .route(get().to(me::open))
                .route(post().to(me::confirm)),
        )
        .service(at("/me/data", "GET, HEAD").route(get().to(me::data)))
        .service(at("/me/export", "POST").route(post().to(me::export)))
        .service(at("/me/withdraw", "POST").route(post().to(me::withdraw)))
        .service(
            at("/me/erase", "GET, HEAD, POST")
                .route(get().to(me::erase_question))
                .route(post().to(me::erase)),
        )
        .service(at("/me/suppress", "POST").route(post().to(me::suppress)))
        .service(at("/me/allow", "POST").route(post().to(me::allow)))
        .service(at("/me/language", "POST").route(post().to(me::set_language)))
        .service(at("/me/close", "POST").route(post().to(me::close)))
        .service(at("/assets/{file}", "GET, HEAD").route(get().to(pages::asset)))
        .default_service(web::to(unknown_path));
    let own = web::scope("/_bindery/v1")
        .wrap(cors_headers().add(NO_STORE))
        .service(at("/account", "DELETE").route(web::delete().to(rights::erase)))
        .service(at("/account/export", "GET, HEAD").route(get().to(rights::export)))
        .service(at("/export.schema.json", "GET, HEAD").route(get().to(rights::schema)))
        .service(at("/invitations/{token}", "DELETE").route(web::delete().to(invitation::cancel)))
        .default_service(web::to(unknown_path));
    app.service(api).service(own).service(pages);
}

/// Version 1 for all callers: keys and signatures. Rooms store these URLs while an invitation is pending.
fn version_1(api: &mut ServiceConfig) {
    api.service(at("/api/v1/pubkey/isvalid", "GET, HEAD").route(get().to(pubkey::is_valid)))
        .service(
            at("/api/v1/pubkey/ephemeral/isvalid", "GET, HEAD").route(get().to(pubkey::ephemeral_is_valid)),
        )
        .service(at("/api/v1/pubkey/{key_id}", "GET, HEAD").route(get().to(pubkey::key)))
        .service(at("/api/v1/sign-ed25519", "POST").route(post().to(invitation::sign_by_link)));
}

/// Version 1 for the homeservers that the operator names.
fn delegated(api: &mut ServiceConfig) {
    api.service(
        at("/api/v1/validate/msisdn/requestToken", "POST").route(post().to(delegation::request_token)),
    )
    .service(at("/api/v1/validate/msisdn/submitToken", "POST").route(post().to(delegation::submit_token)))
    .service(at("/api/v1/3pid/getValidated3pid", "GET, HEAD").route(get().to(delegation::validated_address)));
}

/// A path with its allowed methods. OPTIONS is answered as a preflight. Other methods get 405 with an `Allow`
/// header (RFC 9110 section 15.5.6).
fn at(path: &str, methods: &'static str) -> Resource {
    let other_method = move |request: HttpRequest| async move {
        if request.method() == Method::OPTIONS {
            return HttpResponse::NoContent().finish();
        }
        let mut refused = ApiError::WrongMethod.error_response();
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        refused
    };
    web::resource(path).default_service(web::to(other_method))
}

/// A route for GET and HEAD (RFC 9110 section 9.1).
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The CORS headers that the specification recommends ("Web browser clients").
fn cors_headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add(("Access-Control-Allow-Origin", "*"))
        .add(("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"))
        .add((
            "Access-Control-Allow-Headers",
            "Origin, X-Requested-With, Content-Type, Accept, Authorization",
        ))
}

async fn unknown_path(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    if request.method() == Method::OPTIONS {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::UnknownPath)
    }
}
