//! `bindery demo`: the main job in front of a newcomer, with nothing else installed.
//!
//! It starts a real server on a temporary directory, a homeserver double and a mailbox, both on
//! loopback, and walks through the job over HTTP as a client would. Nothing in it is a shortcut
//! into the server.

mod client;
mod homeserver;
mod mailbox;
mod walk;

use std::{net::TcpListener, path::Path, pin::pin};

use self::{homeserver::Homeserver, mailbox::Mailbox, walk::Walk};
use super::{say, signals::Signals};
use crate::{
    app::{Application, Environment},
    config::{Config, Gateway},
};

/// Shows the job; then serves on until Ctrl-C, unless `once`.
pub fn demo(once: bool) -> anyhow::Result<()> {
    // Only the first call installs it, and this is the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir()?;
    let homeserver = Homeserver::prepare(directory.path())?;
    let mailbox = Mailbox::prepare(directory.path().join("mail"))?;
    let config = configuration(directory.path(), &homeserver)?;
    let base = config.public_base_url.clone();
    let application = Application::build(config, Environment::default())?;
    let name = homeserver.name().to_owned();
    let walk = Walk::new(base.clone(), name, homeserver.told(), directory.path())?;
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
                say(&format!(
                    "\nThe server goes on: look at {base}/ and read the mail at {mails}\nCtrl-C ends it and removes everything.\n"
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
    // The usual port, so that links look as they will; any other if somebody has it.
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
    config.sms.gateway = Gateway::Directory;
    config.sms.directory = Some(directory.join("sms"));
    config.sms.countries = vec!["GB".to_owned()];
    config.operator.name = "The demo".to_owned();
    config.operator.contact = "demo@example.org".to_owned();
    Ok(config)
}
