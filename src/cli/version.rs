//! `bindery version`.

use super::print;
use crate::store::SCHEMA;

/// What to print.
#[derive(clap::Args)]
pub struct VersionArguments {
    /// Also print the commit, the compiler, the target, the features and the schema of the database
    #[arg(long)]
    verbose: bool,
}

/// Prints the version.
pub fn version(VersionArguments { verbose }: &VersionArguments) -> anyhow::Result<()> {
    print(&format!("bindery {}\n", env!("CARGO_PKG_VERSION")))?;
    if !verbose {
        return Ok(());
    }
    let features = if cfg!(feature = "demo") { "demo" } else { "none" };
    // `build.rs` sets these.
    print(&format!(
        "commit: {}\ncompiler: {}\ntarget: {}\nfeatures: {features}\ndatabase schema: {SCHEMA}\n",
        env!("BINDERY_BUILD_COMMIT"),
        env!("BINDERY_BUILD_COMPILER"),
        env!("BINDERY_BUILD_TARGET"),
    ))
}
