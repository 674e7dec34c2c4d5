//! A homeserver double for the demo: HTTPS on loopback, with a certificate authority of its own. It
//! has two users, confirms their OpenID tokens, and keeps the invitations that Bindery delivers.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use actix_web::{App, HttpResponse, HttpServer, dev::Server, web};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The double, bound and not yet running.
pub struct Homeserver {
    name: String,
    ca_file: PathBuf,
    listener: TcpListener,
    tls: ServerConfig,
    delivered: watch::Sender<Vec<Value>>,
}

impl Homeserver {
    /// Binds to loopback and writes the authority's certificate to `directory`.
    pub fn prepare(directory: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let name = listener.local_addr()?.to_string();
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let ca_file = directory.join("homeserver-ca.pem");
        std::fs::write(&ca_file, authority.pem())?;
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &authority)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self { name, ca_file, listener, tls, delivered: watch::Sender::default() })
    }

    /// Its server name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The authority's certificate, for `homeservers.extra_ca_file`.
    pub fn ca_file(&self) -> PathBuf {
        self.ca_file.clone()
    }

    /// The invitations delivered so far.
    pub fn delivered(&self) -> watch::Receiver<Vec<Value>> {
        self.delivered.subscribe()
    }

    /// Starts to answer.
    pub fn run(self) -> std::io::Result<Server> {
        let (name, delivered) = (self.name, self.delivered);
        let app = move || {
            App::new()
                .app_data(web::Data::new(name.clone()))
                .app_data(web::Data::new(delivered.clone()))
                .route("/_matrix/federation/v1/3pid/onbind", web::put().to(on_bind))
                .route("/_matrix/federation/v1/openid/userinfo", web::get().to(user_info))
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        Ok(server.listen_rustls_0_23(self.listener, self.tls)?.run())
    }
}

async fn on_bind(body: web::Json<Value>, delivered: web::Data<watch::Sender<Vec<Value>>>) -> HttpResponse {
    delivered.send_modify(|delivered| delivered.push(body.into_inner()));
    HttpResponse::Ok().json(json!({}))
}

#[derive(Deserialize)]
struct Query {
    access_token: String,
}

async fn user_info(query: web::Query<Query>, name: web::Data<String>) -> HttpResponse {
    match query.access_token.strip_prefix("openid-of-") {
        Some(person @ ("alice" | "bob")) => {
            HttpResponse::Ok().json(json!({ "sub": format!("@{person}:{}", name.as_str()) }))
        }
        _ => HttpResponse::Unauthorized()
            .json(json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "No such token" })),
    }
}
