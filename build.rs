//! Records what `bindery version --verbose` says about the build: commit, compiler and target.
//!
//! It needs no network and works without git. The same source and compiler give the same bytes; a packager who builds
//! from a tarball sets `BINDERY_COMMIT`. Debug builds ask no git, so that a commit does not compile everything again.

#![expect(clippy::disallowed_methods, reason = "this is how cargo talks to a build script")]

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BINDERY_COMMIT");
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let commit = variable("BINDERY_COMMIT").or_else(packaged_commit).or_else(|| {
        let is_release = variable("PROFILE").is_some_and(|profile| profile == "release");
        // A folder above may be the repository of a packager.
        if is_release && Path::new(".git").exists() { git_commit() } else { None }
    });
    let compiler = variable("RUSTC").and_then(|rustc| output_of(&rustc, &["--version"]));
    for (name, value) in [("COMMIT", commit), ("COMPILER", compiler), ("TARGET", variable("TARGET"))] {
        println!("cargo::rustc-env=BINDERY_BUILD_{name}={}", value.as_deref().unwrap_or("unknown"));
    }
}

/// The commit that `cargo package` writes into a crate.
fn packaged_commit() -> Option<String> {
    let text = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn git_commit() -> Option<String> {
    if let Some(log) = output_of("git", &["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    output_of("git", &["rev-parse", "HEAD"])
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
