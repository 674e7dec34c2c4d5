//! The real program, started on a configuration file.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::homeserver::Homeserver;

/// A user that no system has.
pub const STRANGER: u32 = 54_321;

/// The real program. It reads no configuration file of this machine.
pub fn bindery() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bindery"));
    command.env("BINDERY_CONFIG", "");
    command
}

/// The real program with these arguments, run as [`STRANGER`]. Only root can start it.
pub fn as_stranger(arguments: &[&str]) -> Command {
    let mut command = bindery();
    command.args(arguments).uid(STRANGER).gid(STRANGER);
    command
}

/// The real program; killed when it is dropped.
pub struct Program {
    pub child: Child,
    pub base: String,
    /// What it has logged, and goes on to log.
    pub log: BufReader<std::process::ChildStderr>,
}

impl Program {
    pub fn start(config: &std::path::Path) -> Self {
        Self::start_with(&["serve", "--config", config.to_str().expect("UTF-8")])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        Self::run(bindery().args(arguments))
    }

    /// Starts it with this many descriptors, which it cannot raise, and this many threads that answer requests.
    pub fn start_limited(config: &std::path::Path, descriptors: usize, workers: usize) -> Self {
        let mut command = Command::new("sh");
        let line = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_bindery"), "serve", "--config"]).arg(config);
        Self::run(command.env("BINDERY_HTTP__WORKERS", workers.to_string()))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut program = Self { child, base: String::new(), log };
        let mut line = String::new();
        while program.base.is_empty() {
            line.clear();
            assert_ne!(program.log.read_line(&mut line).expect("a line"), 0, "it ended before serving");
            if let Some((_, address)) = line.split_once("address=") {
                program.base = format!("http://{}", address.trim());
            }
        }
        program
    }

    /// Stops it with SIGTERM; it must succeed.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a signal");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Neither does anything to a child that has been waited for, whose ID may be another process's by now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration file for the real program beside a homeserver double.
pub fn config_file(dir: &std::path::Path, homeserver: &Homeserver) -> std::path::PathBuf {
    let path = dir.join("bindery.toml");
    let (data, ca) = (dir.join("data"), homeserver.ca_file());
    let text = format!(
        "server_name = 'id.test'\npublic_base_url = 'https://id.test'\ndata_dir = '{}'\nhttp.listen = ['127.0.0.1:0']\n\
         homeservers.extra_ca_file = '{}'\nhomeservers.allowed_special_addresses = ['127.0.0.0/8']\n\
         privacy.notify_owners = false\n\
         limits.register_per_ip = {{ burst = 100000, per_hour = 100000 }}\n\
         limits.register_per_homeserver = {{ burst = 100000, per_hour = 100000 }}\n",
        data.display(),
        ca.display()
    );
    std::fs::write(&path, text).expect("written");
    path
}
