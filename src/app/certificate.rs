//! The certificate for TLS of the server's own: shows it in handshakes, and notices when its files change.

mod pair;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{task::spawn_blocking, time::sleep};

use self::pair::Age;
pub use self::pair::{Pair, read};
use crate::{
    domain::{clock::Clock, day::Day, time::Millis},
    parts,
};

/// The part that watches the files.
pub const PART: &str = "TLS certificate";

/// How many ticks pass between two looks at the files: a minute.
const CHECK_TICKS: u32 = 60;

/// The certificate that the server shows.
#[derive(Debug)]
pub struct Certificate(ArcSwap<Pair>);

impl Certificate {
    /// Shows this one first.
    pub fn new(pair: Pair) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(pair)))
    }

    /// Shows another one from now on, if it is another one.
    pub fn replace(&self, pair: Pair) {
        if self.0.load().digest == pair.digest && self.0.load().files == pair.files {
            return;
        }
        let (file, valid_until) = (pair.files.certificate.display().to_string(), Day::of(pair.valid_until));
        self.0.store(Arc::new(pair));
        tracing::info!(file, %valid_until, "a new TLS certificate is in use");
    }

    /// TLS 1.2 and 1.3 with this certificate.
    ///
    /// # Errors
    /// If the TLS library does not know these versions.
    pub fn tls(self: &Arc<Self>) -> anyhow::Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.with_no_client_auth().with_cert_resolver(self.clone()))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().certified.clone())
    }
}

/// Looks at the files every minute, for ever.
pub async fn watch(certificate: Arc<Certificate>, clock: Arc<dyn Clock>, tick: Duration) {
    parts::panic_if_asked(PART);
    let mut watch = Watch { certificate, wrong: None, told: ([0; 32], Age::Good) };
    loop {
        watch.warn_of_age(clock.now());
        sleep(tick * CHECK_TICKS).await;
        watch.check_files().await;
    }
}

struct Watch {
    certificate: Arc<Certificate>,
    /// What is wrong with the files, and whether the log says so.
    wrong: Option<(String, bool)>,
    /// The certificate whose age the log says, and which.
    told: ([u8; 32], Age),
}

impl Watch {
    fn warn_of_age(&mut self, now: Millis) {
        let pair = self.certificate.0.load();
        let (file, valid_until) = (pair.files.certificate.display(), Day::of(pair.valid_until));
        let age = pair.age(now);
        if self.told == (pair.digest, age) {
            return;
        }
        self.told = (pair.digest, age);
        match age {
            Age::Good => {}
            Age::ExpiresSoon => {
                tracing::warn!(%file, %valid_until, "the TLS certificate expires soon; does its renewal work?");
            }
            Age::Expired => {
                tracing::warn!(%file, %valid_until, "the TLS certificate has expired, so clients and homeservers refuse to connect: renew it");
            }
        }
    }

    /// Takes a new pair into use. A renewal writes one file after the other, so the log speaks of files that do not
    /// fit only when they are still wrong at the next look.
    async fn check_files(&mut self) {
        let (files, digest) = {
            let pair = self.certificate.0.load();
            (pair.files.clone(), pair.digest)
        };
        let look = move || {
            let contents = files.contents()?;
            if contents.digest() == digest { Ok(None) } else { files.pair(&contents).map(Some) }
        };
        let found = spawn_blocking(look).await.unwrap_or_else(|panicked| Err(panicked.into()));
        match found {
            Ok(pair) => {
                self.wrong = None;
                if let Some(pair) = pair {
                    self.certificate.replace(pair);
                }
            }
            Err(error) => {
                let reason = format!("{error:#}");
                let is_told = match &self.wrong {
                    Some((wrong, is_told)) if *wrong == reason => {
                        if !is_told {
                            tracing::warn!(
                                reason,
                                "the files of the TLS certificate have changed and cannot be used; the previous certificate stays in use"
                            );
                        }
                        true
                    }
                    _ => false,
                };
                self.wrong = Some((reason, is_told));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rcgen::KeyPair;

    use super::*;
    use crate::config::Tls;

    fn new_pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["id.test".to_owned()]).expect("parameters");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    fn put(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
    }

    #[tokio::test]
    async fn the_old_pair_stays_until_both_files_of_the_new_one_fit() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let (first, first_key) = new_pair();
        put(&certificate, &first);
        put(&key, &first_key);
        let tls = Tls {
            certificate_file: Some(certificate.clone()),
            key_file: Some(key.clone()),
            ..Tls::default()
        };
        let shown = Certificate::new(read(&tls).expect("a pair").expect("it is set"));
        let digest = || shown.0.load().digest;
        let old = digest();
        let mut watch = Watch { certificate: shown.clone(), wrong: None, told: ([0; 32], Age::Good) };
        watch.check_files().await;
        assert_eq!((digest(), &watch.wrong), (old, &None));
        let (second, second_key) = new_pair();
        put(&key, &second_key);
        watch.check_files().await;
        assert!(
            digest() == old && watch.wrong.as_ref().is_some_and(|(_, is_told)| !is_told),
            "not told at once"
        );
        watch.check_files().await;
        assert!(digest() == old && watch.wrong.as_ref().is_some_and(|(_, is_told)| *is_told));
        put(&certificate, &second);
        watch.check_files().await;
        let new = digest();
        assert!(new != old && watch.wrong.is_none());
        fs::remove_file(&key).expect("removed");
        put(&certificate, "damaged");
        watch.check_files().await;
        assert!(digest() == new && watch.wrong.is_some(), "what cannot be used changes nothing");
        put(&certificate, &second);
        put(&key, &second_key);
        watch.check_files().await;
        assert!(digest() == new && watch.wrong.is_none());
    }
}
