//! Reads a certificate and its key from PEM files, and says what is wrong with them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use rustls::{
    CertificateError, Error, InconsistentKeys, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};

use crate::{
    config::{
        Tls,
        user::{current, group_name, name_of},
    },
    domain::{
        file_error::with_path,
        time::{DAY, Millis},
    },
};

/// A larger file holds no certificate and no key.
const MAX_FILE: u64 = 1 << 20;
/// How long before its end a certificate is warned of, or a quarter of its life if that is shorter.
const EXPIRY_NOTICE: Duration = DAY.saturating_mul(14);
/// After the last day that a certificate can name (RFC 5280 section 4.1.2.5).
const AFTER_ALL_TIMES: Duration = Duration::from_secs(300_000_000_000);

/// A certificate with its key, read from their files.
#[derive(Debug)]
pub struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) files: Files,
    pub(super) digest: [u8; 32],
    valid_from: Millis,
    pub(super) valid_until: Millis,
}

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub(super) certificate: PathBuf,
    key: PathBuf,
}

/// Reads the certificate that a configuration names. `None` if it names none.
///
/// # Errors
/// What is wrong with the files, and what to do.
pub fn read(tls: &Tls) -> anyhow::Result<Option<Pair>> {
    let Some((certificate, key)) = tls.certificate_file.clone().zip(tls.key_file.clone()) else {
        return Ok(None);
    };
    let files = Files { certificate, key };
    let contents = files.contents()?;
    files.pair(&contents).map(Some)
}

/// What the two files hold.
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Contents {
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(Sha256::digest(&self.certificate))
            .chain_update(&self.key)
            .finalize()
            .into()
    }
}

impl Files {
    pub fn contents(&self) -> anyhow::Result<Contents> {
        let certificate = read_file(&self.certificate).context("http.tls.certificate_file")?;
        let key = read_file(&self.key).context("http.tls.key_file")?;
        Ok(Contents { certificate, key })
    }

    pub fn pair(&self, contents: &Contents) -> anyhow::Result<Pair> {
        let chain = certificates(&self.certificate, &contents.certificate);
        let chain = chain.context("http.tls.certificate_file")?;
        let key = private_key(&self.key, &contents.key).context("http.tls.key_file")?;
        let first =
            ParsedCertificate::try_from(&chain[0]).map_err(|error| unusable(&self.certificate, &error));
        let first = first.context("http.tls.certificate_file")?;
        let (valid_from, valid_until) = validity(&first);
        let (certificate, key_file) = (self.certificate.display(), self.key.display());
        let certified = match CertifiedKey::from_der(chain.clone(), key, &default_provider()) {
            Ok(certified) => Arc::new(certified),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => bail!(
                "http.tls: the key in {key_file} does not belong to the first certificate in {certificate}: use the two files of one certificate, with the certificate of this server before those of its issuers"
            ),
            Err(error) => bail!(
                "http.tls.key_file: the key in {key_file} cannot be used ({error}): make one of a kind that all clients know, like ECDSA P-256 or RSA with 2048 bits"
            ),
        };
        Ok(Pair { certified, files: self.clone(), digest: contents.digest(), valid_from, valid_until })
    }
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path).map_err(with_path(path))?;
    ensure!(metadata.is_file(), "{} is not a file", path.display());
    ensure!(metadata.len() <= MAX_FILE, "{} is too large for a PEM file", path.display());
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => anyhow!(
            "the user '{}' may not read {path} (owner {}, group {}, mode {:04o}): let a group of that user read it, for example: chgrp GROUP {path} && chmod 0640 {path}",
            current(),
            name_of(metadata.uid()),
            group_name(metadata.gid()),
            metadata.mode() & 0o7777,
            path = path.display()
        ),
        _ => with_path(path)(error).into(),
    })
}

fn certificates(path: &Path, text: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    require_pem(path, text, "openssl x509 -inform DER -in FILE -out FILE.pem")?;
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    let chain = chain.with_context(|| format!("{} is damaged", path.display()))?;
    ensure!(!chain.is_empty(), "{} contains no certificate; is it the file of the key?", path.display());
    for certificate in &chain {
        ParsedCertificate::try_from(certificate).map_err(|error| unusable(path, &error))?;
    }
    Ok(chain)
}

fn unusable(path: &Path, error: &Error) -> anyhow::Error {
    anyhow!("{} contains a certificate that cannot be used ({error})", path.display())
}

fn private_key(path: &Path, text: &[u8]) -> anyhow::Result<PrivateKeyDer<'static>> {
    require_pem(path, text, "openssl pkey -inform DER -in FILE -out FILE.pem")?;
    let name = path.display();
    // PKCS #8 says it in the label, the older form of OpenSSL in a header (RFC 1421 section 4.6.1.1).
    let has = |words: &[u8]| text.windows(words.len()).any(|part| part == words);
    ensure!(
        !has(b"BEGIN ENCRYPTED PRIVATE KEY") && !has(b"Proc-Type: 4,ENCRYPTED"),
        "the key in {name} is encrypted, and Bindery asks for no passphrase: write it without one, to a file that only the server may read: openssl pkey -in {name} -out FILE"
    );
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            bail!("{name} contains no private key; is it the file of the certificate?")
        }
        Err(error) => Err(error).with_context(|| format!("{name} is damaged")),
    }
}

fn require_pem(path: &Path, text: &[u8], convert: &str) -> anyhow::Result<()> {
    let is_pem = text.windows(11).any(|part| part == b"-----BEGIN ");
    ensure!(!text.is_empty(), "{} is empty", path.display());
    ensure!(is_pem, "{} is not in PEM format; if it is in DER format, convert it: {convert}", path.display());
    Ok(())
}

/// From when and until when a certificate is valid. The library says so only of a certificate that it refuses, so
/// this asks it about times outside.
fn validity(certificate: &ParsedCertificate<'_>) -> (Millis, Millis) {
    let refused = |now: Duration| {
        let (now, roots) = (UnixTime::since_unix_epoch(now), RootCertStore::empty());
        match verify_server_cert_signed_by_trust_anchor(certificate, &roots, &[], now, &[]) {
            Err(Error::InvalidCertificate(
                CertificateError::ExpiredContext { not_after: limit, .. }
                | CertificateError::NotValidYetContext { not_before: limit, .. },
            )) => Some(Millis(limit.as_secs().saturating_mul(1000))),
            _ => None,
        }
    };
    (refused(Duration::ZERO).unwrap_or(Millis(0)), refused(AFTER_ALL_TIMES).unwrap_or(Millis(u64::MAX)))
}

/// How close the end of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Good,
    ExpiresSoon,
    Expired,
}

impl Pair {
    pub fn age(&self, now: Millis) -> Age {
        let life = Duration::from_millis(self.valid_until.0.saturating_sub(self.valid_from.0));
        let notice = EXPIRY_NOTICE.min(life / 4);
        match self.valid_until {
            until if until <= now => Age::Expired,
            until if until <= now.after(notice) => Age::ExpiresSoon,
            _ => Age::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_age_of_a_certificate_is_told_two_weeks_before_its_end_or_in_its_last_quarter() {
        let read = |from, until| {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(vec!["id.test".to_owned()]).expect("parameters");
            (params.not_before, params.not_after) = (from, until);
            let pem = params.self_signed(&key).expect("a certificate").pem();
            let files = Files { certificate: "cert.pem".into(), key: "key.pem".into() };
            let contents = Contents { certificate: pem.into_bytes(), key: key.serialize_pem().into_bytes() };
            files.pair(&contents).expect("a pair")
        };
        let day = |text: &str| crate::domain::day::Day::parse(text).expect("a day").start();
        let year = read(date_time_ymd(2027, 1, 1), date_time_ymd(2028, 1, 1));
        assert_eq!((year.valid_from, year.valid_until), (day("2027-01-01"), day("2028-01-01")));
        assert_eq!(year.age(day("2027-12-17")), Age::Good);
        assert_eq!(year.age(day("2027-12-18")), Age::ExpiresSoon);
        assert_eq!(year.age(day("2028-01-01")), Age::Expired);
        let week = read(date_time_ymd(2027, 1, 1), date_time_ymd(2027, 1, 9));
        assert_eq!(week.age(day("2027-01-06")), Age::Good);
        assert_eq!(week.age(day("2027-01-07")), Age::ExpiresSoon);
        let endless = read(date_time_ymd(2027, 1, 1), date_time_ymd(9999, 12, 31));
        assert_eq!(endless.age(day("2500-01-01")), Age::Good);
    }
}
