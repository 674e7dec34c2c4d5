//! What the log and systemd hear once the server answers requests.

use std::net::SocketAddr;

use super::{listeners::Address, systemd};
use crate::{
    config::Config,
    ops::{self, Core},
    store,
};

/// Logs what runs here, with what.
pub fn log_start(core: &Core, listen: &[Address], metrics_listen: &[SocketAddr]) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = %core.config.source,
        data_dir = %core.config.data_dir.display(),
        schema = store::SCHEMA,
        signing_key = ops::keys::current_id(core),
        listen = %format_args!("[{}]", listen.iter().map(Address::to_string).collect::<Vec<_>>().join(", ")),
        ?metrics_listen,
        "started"
    );
}

/// Tells the operator and the service manager that requests are answered.
pub fn announce(config: &Config, addresses: &[Address]) {
    let (server_name, public_base_url) = (&config.server_name, &config.public_base_url);
    for address in addresses {
        let tls = matches!(address, Address::Tls(_));
        tracing::info!(server_name, public_base_url, tls, %address, "serving");
    }
    systemd::ready();
}
