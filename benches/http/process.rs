//! The servers under load, each a process of its own on a core of its own, and what the system
//! says about them.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use bindery::config::Config;
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::constant;

/// The executable that users get, built beside this benchmark in the same profile.
pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_bindery");

/// A server that takes longer than this to start has failed.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// Which side of a measurement runs where.
#[derive(Clone, Copy)]
pub enum Side {
    /// What is measured: the first core that this process may use.
    Server,
    /// What loads it: the last one.
    Load,
}

/// The cores that this process was allowed at its start; only those are chosen from.
fn cores() -> &'static [usize] {
    static CORES: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    CORES.get_or_init(|| {
        let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
    })
}

/// Keeps the calling thread, and the processes that it starts, on one core. With a single core
/// there is nothing to choose.
pub fn pin(side: Side) -> anyhow::Result<()> {
    let core = match side {
        Side::Server => cores().first(),
        Side::Load => cores().last(),
    };
    let mut only = CpuSet::new();
    only.set(*core.context("the system does not say which cores there are")?);
    Ok(sched_setaffinity(None, &only)?)
}

/// What this ran on, in one line.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = match cores() {
        [] | [_] => "server and load share one core".to_owned(),
        [server, .., load] => format!("server on core {server}, load on core {load}"),
    };
    format!("{}; Linux {}; {cores}.", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

/// A running server; ends with this value.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// How long after its start it answered.
    pub ready_after: Duration,
}

impl Server {
    /// Starts Bindery with this configuration, listening on a free port.
    pub fn bindery(config: &Config) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut config = config.clone();
        config.http.listen = vec![address.to_string()];
        let file = config.data_dir.with_extension("toml");
        fs::write(&file, toml::to_string(&config)?)?;
        let mut command = Command::new(EXECUTABLE);
        command.arg("serve").arg("--config").arg(file);
        Self::start(command, address)
    }

    /// Starts the constant handler.
    pub fn constant() -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(constant::MODE).arg(address.port().to_string());
        Self::start(command, address)
    }

    fn start(mut command: Command, address: SocketAddr) -> anyhow::Result<Self> {
        pin(Side::Server)?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).spawn();
        pin(Side::Load)?;
        let mut server = Self { child: child?, address, ready_after: Duration::ZERO };
        while !answers(address) {
            if let Some(status) = server.child.try_wait()? {
                bail!("a server ended at its start: {status}");
            }
            ensure!(started.elapsed() < MAX_WAIT, "a server does not answer");
            std::thread::sleep(Duration::from_micros(200));
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// Processor time used so far.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Fields 14 and 15; the name in field 2 may hold blanks, so count after it (proc(5)).
        let (_, after_name) = stat.rsplit_once(") ").context("no fields in stat")?;
        let ticks = after_name.split(' ').skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * ticks))
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it with SIGTERM, as a service manager does.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "a server did not end well: {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Whether a ping is answered with 200.
fn answers(address: SocketAddr) -> bool {
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(MAX_WAIT))?;
        stream.write_all(b"GET /_matrix/identity/v2 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200 "))
    };
    ping().unwrap_or(false)
}

/// How long `path` is in bytes.
pub fn length(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path)?.len())
}
