//! `bindery demo`: shows a newcomer what Bindery does, with nothing else installed.
//!
//! It starts a real server in a temporary directory, and on loopback a homeserver double and a
//! mailbox. Then it calls the server over HTTP, step by step, as a client would. It takes no shortcut
//! into the server. Only builds with the feature `demo` have it.

mod client;
mod homeserver;
mod mailbox;
mod walk;

use std::{net::TcpListener, path::Path, pin::pin};

use self::{homeserver::Homeserver, mailbox::Mailbox, walk::Walk};
use super::{print, signals::Signals};
use crate::{
    app::{Application, Environment},
    config::{Config, SmsTransport},
};

/// Runs the demo, then serves until Ctrl-C, unless `once`.
pub fn demo(once: bool) -> anyhow::Result<()> {
    // Fails only if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir()?;
    let homeserver = Homeserver::prepare(directory.path())?;
    let mailbox = Mailbox::prepare(directory.path().join("mail"))?;
    let config = configuration(directory.path(), &homeserver)?;
    let base = config.public_base_url.clone();
    let application = Application::build(config, Environment::default())?;
    let name = homeserver.name().to_owned();
    let walk = Walk::new(base.clone(), name, homeserver.delivered(), directory.path())?;
    let signals = Signals::start()?;
    let mut outcome = Ok(());
    application.run_until(async {
        outcome = async {
            tokio::spawn(homeserver.run()?);
            let mails = mailbox.url();
            let mut stop = pin!(signals.stop());
            tokio::spawn(mailbox.run()?);
            tokio::select! {
                walked = walk.run() => walked?,
                stopped = &mut stop => return stopped,
            }
            if !once {
                print(&format!(
                    "\nThe server keeps running. Open {base}/ and read the mail at {mails}\nCtrl-C stops it and deletes everything.\n"
                ))?;
                stop.await?;
            }
            Ok(())
        }
        .await;
    })?;
    outcome
}

fn configuration(directory: &Path, homeserver: &Homeserver) -> anyhow::Result<Config> {
    // The default port, so that links look as in production; any free one if it is taken.
    let probe = TcpListener::bind("127.0.0.1:8090").or_else(|_| TcpListener::bind("127.0.0.1:0"))?;
    let address = probe.local_addr()?;
    let mut config = Config {
        server_name: address.to_string(),
        public_base_url: format!("http://{address}"),
        data_dir: directory.join("data"),
        ..Config::default()
    };
    config.http.listen = vec![address.to_string()];
    config.homeservers.extra_ca_file = Some(homeserver.ca_file());
    config.homeservers.allowed_special_addresses = vec!["127.0.0.0/8".parse()?];
    config.mail.directory = Some(directory.join("mail"));
    config.sms.gateway = SmsTransport::Directory;
    config.sms.directory = Some(directory.join("sms"));
    config.sms.countries = vec!["GB".to_owned()];
    config.operator.name = "The demo".to_owned();
    config.operator.contact = "demo@example.org".to_owned();
    Ok(config)
}
