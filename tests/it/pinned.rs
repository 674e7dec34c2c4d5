//! Certificates in an `extra_ca_file` that are no authorities: a self-signed one is pinned, and one that no TLS
//! library accepts is refused in words.

use std::{fs, sync::Arc};

use bindery::{app, config::Config};
use tempfile::TempDir;

use crate::support::{Server, homeserver::Homeserver, tls::Authority};

/// What `openssl x509 -req -signkey` makes without extensions.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBJzCBzQIUNlOFDwilRylWXGnsz/fG8LWbO0IwCgYIKoZIzj0EAwIwFTETMBEG
A1UEAwwKcmVsYXkudGVzdDAgFw0yNjExMjcxMzM5MDNaGA8yMTI2MTEwMzEzMzkw
M1owFTETMBEGA1UEAwwKcmVsYXkudGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABFKFYnWdEt/KSLqRvk7aXr0XQtCQFbAFOlm+bRTtEtpCHMZqhy6Y8uzU66kA
1CHTUnMU5lmI+Vi8duSdAgXlvDowCgYIKoZIzj0EAwIDSQAwRgIhAJN6mwyzG1dV
1adN33Hr0ehYLfnxbmYH6CMomRw1Lbp3AiEA3GWlZgHXxvC4itFJ/Jzd1pKCB1PY
/yyRtSmtCWM/oxU=
-----END CERTIFICATE-----
";

/// A homeserver on loopback that shows a self-signed certificate for these names.
fn self_signed(names: &[&str]) -> Homeserver {
    Homeserver::start_under(Arc::new(Authority::self_signed(names)), names, |address| address.to_string())
}

#[tokio::test]
async fn a_homeserver_may_show_the_self_signed_certificate_in_the_file() {
    let server = Server::start_for(self_signed(&["127.0.0.1"]), |_| {});
    server.register("alice").await;
}

#[tokio::test]
async fn a_pinned_certificate_counts_for_its_own_names_only() {
    let server = Server::start_for(self_signed(&["hs.test", "127.0.0.2"]), |_| {});
    let name = server.homeserver.name().to_owned();
    server.register_with(&name, "token").await.refused(502, "M_UNKNOWN");
    assert!(server.homeserver.asked.lock().expect("not poisoned").is_empty(), "it was told nothing");
}

#[tokio::test]
async fn a_pinned_certificate_vouches_for_no_other() {
    let issuer = Arc::new(Authority::named_host(&["internal.test"]));
    let homeserver = Homeserver::start_under(issuer, &["127.0.0.1"], |address| address.to_string());
    let server = Server::start_for(homeserver, |_| {});
    let name = server.homeserver.name().to_owned();
    server.register_with(&name, "token").await.refused(502, "M_UNKNOWN");
    assert!(server.homeserver.asked.lock().expect("not poisoned").is_empty(), "it was told nothing");
}

#[tokio::test]
async fn another_self_signed_certificate_for_the_same_names_is_refused() {
    let server = Server::start_for(self_signed(&["127.0.0.1"]), |_| {});
    let other = self_signed(&["127.0.0.1"]);
    server.register_with(other.name(), "token").await.refused(502, "M_UNKNOWN");
    assert!(other.asked.lock().expect("not poisoned").is_empty(), "it was told nothing");
    server.register("alice").await;
}

#[test]
fn a_certificate_of_version_1_is_refused_with_what_to_do() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("version-1.pem");
    fs::write(&file, VERSION_1).expect("written");
    let homeservers = |config: &mut Config| config.homeservers.extra_ca_file = Some(file.clone());
    let relay = |config: &mut Config| {
        config.mail.smtp.host = "relay.test".to_owned();
        config.mail.smtp.extra_ca_file = Some(file.clone());
    };
    type Change<'a> = &'a dyn Fn(&mut Config);
    let cases: [(&str, Change); 2] =
        [("homeservers.extra_ca_file", &homeservers), ("mail.smtp.extra_ca_file", &relay)];
    for (key, change) in cases {
        let mut config = Config::default();
        config.mail.transport = bindery::config::MailTransport::Smtp;
        change(&mut config);
        let error = format!("{:#}", app::check(&config).expect_err("it is refused"));
        for words in [key, "version-1.pem", "X.509 version 1", "openssl req -x509"] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
