//! The files of the certificate: what is wrong with them, and how they are renewed.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use rcgen::KeyPair;
use rustix::process::geteuid;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};

use super::{NAME, Secure};
use crate::support::{
    Server,
    homeserver::Homeserver,
    polling::until,
    program::{as_stranger, config_file},
    tls::Authority,
};

/// A renewal as certbot makes it: `live` holds links, which then lead to other files.
struct Live<'a>(&'a Path);

impl Live<'_> {
    fn point(&self, name: &str, contents: &str, version: u32) {
        let target = self.0.join(format!("{name}{version}.pem"));
        fs::write(&target, contents).expect("written");
        let (link, new) = (self.0.join(name), self.0.join("new"));
        symlink(&target, &new).expect("a link");
        fs::rename(new, link).expect("renamed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let (authority, dir) = (Authority::new(), tempfile::TempDir::new().expect("a directory"));
    let live = Live(dir.path());
    let (first, first_key) = authority.issue(NAME);
    live.point("cert", &first, 1);
    live.point("key", &first_key, 1);
    let server = Server::start_with(|config| {
        config.http.tls.listen = vec!["127.0.0.1:0".to_owned()];
        config.http.tls.certificate_file = Some(dir.path().join("cert"));
        config.http.tls.key_file = Some(dir.path().join("key"));
    })
    .await;
    let shown = || {
        let stream = Secure::connect(server.addresses[1], authority.client(&[&TLS13]));
        stream.expect("a handshake").certificate()
    };
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM").to_vec();
    assert_eq!(shown(), der(&first));
    let (second, second_key) = authority.issue(NAME);
    live.point("key", &second_key, 2);
    live.point("cert", &second, 2);
    until("the new certificate is shown", async || shown() == der(&second)).await;
}

/// What `bindery config check` says about these files.
fn check(dir: &Path, config: &Path, as_other_user: bool) -> String {
    let arguments = ["config", "check", "--config", config.to_str().expect("UTF-8")];
    let mut command = match as_other_user {
        true => as_stranger(&arguments),
        false => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
            command.args(arguments);
            command
        }
    };
    command
        .env("BINDERY_HTTP__TLS__LISTEN", "['127.0.0.1:0']")
        .env("BINDERY_HTTP__TLS__CERTIFICATE_FILE", dir.join("cert.pem"))
        .env("BINDERY_HTTP__TLS__KEY_FILE", dir.join("key.pem"));
    let output = command.output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(78), "{said}");
    said.replace(dir.to_str().expect("UTF-8"), "DIR")
}

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg=\n-----END ENCRYPTED PRIVATE KEY-----\n";
const OLD_ENCRYPTED: &str = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let (dir, homeserver) = (tempfile::TempDir::new().expect("a directory"), Homeserver::start());
    let (config, authority) = (config_file(dir.path(), &homeserver), Authority::new());
    let (certificate, key) = authority.issue(NAME);
    let other = KeyPair::generate().expect("a key").serialize_pem();
    let root = fs::read_to_string(authority.file()).expect("a file");
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM").to_vec();
    let key_der = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM").secret_der().to_vec();
    let wrong_order = format!("{root}{certificate}");
    let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
    let cases: &[(&[u8], &[u8], &str)] = &[
        (
            certificate,
            other.as_bytes(),
            "http.tls: the key in DIR/key.pem does not belong to the first certificate in DIR/cert.pem: use the two files of one certificate",
        ),
        (wrong_order.as_bytes(), key, "with the certificate of this server before those of its issuers"),
        (
            certificate,
            ENCRYPTED.as_bytes(),
            "http.tls.key_file: the key in DIR/key.pem is encrypted, and Bindery asks for no passphrase: write it without one",
        ),
        (certificate, OLD_ENCRYPTED.as_bytes(), "the key in DIR/key.pem is encrypted"),
        (
            &der,
            key,
            "http.tls.certificate_file: DIR/cert.pem is not in PEM format; if it is in DER format, convert it: openssl x509 -inform DER",
        ),
        (
            certificate,
            &key_der,
            "http.tls.key_file: DIR/key.pem is not in PEM format; if it is in DER format, convert it: openssl pkey -inform DER",
        ),
        (
            key,
            certificate,
            "http.tls.certificate_file: DIR/cert.pem contains no certificate; is it the file of the key?",
        ),
        (
            certificate,
            certificate,
            "http.tls.key_file: DIR/key.pem contains no private key; is it the file of the certificate?",
        ),
        (b"", key, "http.tls.certificate_file: DIR/cert.pem is empty"),
        (
            b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            key,
            "http.tls.certificate_file: DIR/cert.pem is damaged",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            key,
            "DIR/cert.pem contains a certificate that cannot be used",
        ),
        (&[b'x'; 2 << 20], key, "http.tls.certificate_file: DIR/cert.pem is too large for a PEM file"),
    ];
    for (certificate, key, words) in cases {
        fs::write(dir.path().join("cert.pem"), certificate).expect("written");
        fs::write(dir.path().join("key.pem"), key).expect("written");
        let said = check(dir.path(), &config, false);
        assert!(said.contains(words), "{words}\n{said}");
    }
    fs::write(dir.path().join("cert.pem"), certificate).expect("written");
    fs::remove_file(dir.path().join("key.pem")).expect("removed");
    let said = check(dir.path(), &config, false);
    assert!(said.contains("http.tls.key_file: cannot use DIR/key.pem: No such file"), "{said}");
    fs::create_dir(dir.path().join("key.pem")).expect("a directory");
    let said = check(dir.path(), &config, false);
    assert!(said.contains("http.tls.key_file: DIR/key.pem is not a file"), "{said}");
    fs::remove_dir(dir.path().join("key.pem")).expect("removed");
    if !geteuid().is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    fs::write(dir.path().join("key.pem"), key).expect("written");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    mode(&dir.path().join("key.pem"), 0o640);
    mode(dir.path(), 0o755);
    let said = check(dir.path(), &config, true);
    let expected = "the user '#54321' may not read DIR/key.pem (owner root, group root, mode 0640): let a group of that user read it, for example: chgrp GROUP DIR/key.pem && chmod 0640 DIR/key.pem";
    assert!(said.contains(expected), "{said}");
}
