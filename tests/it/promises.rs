//! One test for each promise of the policy (design, section 1), named after it.

use std::path::PathBuf;

use bindery::config::Config;
use tempfile::TempDir;

use crate::support::Server;

/// A server whose mails lie outside its data directory, and that directory: whatever is found in there,
/// the server has kept.
pub async fn only_files(change: impl FnOnce(&mut Config)) -> (Server, PathBuf) {
    let mails = TempDir::new().expect("a directory").keep();
    let server = Server::start_with(|config| {
        config.mail.directory = Some(mails);
        change(config);
    })
    .await;
    let data = server.config.data_dir.clone();
    (server, data)
}
