//! A private certificate authority and what it issues.

use std::{path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;

/// A certificate authority with its certificate in a file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
    /// Whether servers show its own certificate instead of one that it issues.
    shows_itself: bool,
}

impl Authority {
    pub fn new() -> Self {
        Self::named(&[], false)
    }

    /// A certificate for these names as `openssl req -x509` makes it: it signs itself, says that it is an
    /// authority, and the server shows it.
    pub fn self_signed(names: &[&str]) -> Self {
        Self::named(names, true)
    }

    /// A certificate for these names that says that it is an authority, and issues others.
    pub fn named_host(names: &[&str]) -> Self {
        Self::named(names, false)
    }

    fn named(names: &[&str], shows_itself: bool) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let dir = TempDir::new().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, dir, shows_itself }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A TLS configuration with a certificate for these names and addresses.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("parameters");
        let issued = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (certificate, key) = match self.shows_itself {
            true => (self.issuer.der().clone(), self.issuer.key().serialize_der()),
            false => (issued.der().clone(), key.serialize_der()),
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![certificate], key).expect("a configuration"))
    }

    /// A certificate for this name and its key, both as PEM.
    pub fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let issued = params.signed_by(&key, &self.issuer).expect("a certificate");
        (issued.pem(), key.serialize_pem())
    }

    /// What a client needs that trusts this authority and speaks these versions.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}
