//! TLS to others: whose certificates count.
//!
//! Besides authorities, an `extra_ca_file` may hold the certificate of the server itself, since that is what
//! `openssl req -x509` makes. Such a certificate names a host. It is pinned: the server must show exactly it, and it
//! vouches for no other certificate, whatever it says about itself.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};

use crate::domain::file_error::with_path;

/// What a pinned certificate is accepted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// For the one server that this configuration connects to, whatever names are in it.
    ForTheServer,
    /// For the names in it, since the configuration connects to many servers.
    ForItsNames,
}

/// TLS that trusts the system's certificate authorities and the certificates in `extra_ca_file`.
///
/// # Errors
/// If the file cannot be read, contains no certificate, or contains one that no TLS library accepts.
pub fn trust(extra_ca_file: Option<&Path>, accept: Pinned) -> anyhow::Result<ClientConfig> {
    let extra = extra_ca_file.map(read_certificates).transpose()?.unwrap_or_default();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let (pinned, authorities): (Vec<_>, Vec<_>) = extra.into_iter().partition(names_a_host);
    roots.add_parsable_certificates(authorities);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    if pinned.is_empty() {
        if roots.is_empty() {
            tracing::warn!(
                "this system has no certificate authorities, so no TLS connection will work: install ca-certificates"
            );
        }
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let has_authorities = !roots.is_empty();
    if !has_authorities {
        // The library wants at least one. `Verifier` lets these vouch for nothing.
        roots.add_parsable_certificates(pinned.clone());
    }
    let authorities = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build()?;
    let verifier = Arc::new(Verifier { authorities, has_authorities, pinned, accept });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Reads the certificates in a PEM file, at least one.
pub fn read_certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let name = || format!("cannot read certificates from {}", path.display());
    let text = std::fs::read(path).map_err(with_path(path))?;
    let certificates = CertificateDer::pem_slice_iter(&text);
    let certificates = certificates.collect::<Result<Vec<_>, _>>().with_context(name)?;
    anyhow::ensure!(!certificates.is_empty(), "{} contains no certificate", path.display());
    for certificate in &certificates {
        if let Err(error) = ParsedCertificate::try_from(certificate) {
            bail!(
                "{} contains a certificate that cannot be used ({error}); if it has X.509 version 1, make one of version 3: openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=NAME -addext subjectAltName=DNS:NAME -keyout key.pem -out cert.pem",
                path.display()
            );
        }
    }
    Ok(certificates)
}

/// How the extension subjectAltName stands in a certificate: its object identifier in DER (RFC 5280 section 4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x11];

/// Whether a certificate is a server's own. As an authority it could vouch for every name, and the key of a server is
/// not kept like that of an authority.
fn names_a_host(certificate: &CertificateDer<'_>) -> bool {
    certificate.windows(SUBJECT_ALT_NAME.len()).any(|part| part == SUBJECT_ALT_NAME)
}

/// Accepts what the authorities accept, and the pinned certificates. The server must prove in either case that it
/// has the key.
#[derive(Debug)]
struct Verifier {
    authorities: Arc<WebPkiServerVerifier>,
    has_authorities: bool,
    pinned: Vec<CertificateDer<'static>>,
    accept: Pinned,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.has_authorities && !self.pinned.contains(certificate) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let verified =
            self.authorities.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        match verified {
            Err(Error::InvalidCertificate(reason))
                if self.pinned.contains(certificate) && !is_expired(&reason) =>
            {
                if self.accept == Pinned::ForItsNames {
                    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// An expired certificate stays refused, so that the operator notices.
fn is_expired(reason: &CertificateError) -> bool {
    matches!(reason, CertificateError::Expired | CertificateError::ExpiredContext { .. })
}
