//! How the real program ends: a part that dies, signals, a log that cannot be written, too few descriptors; and
//! what the service manager hears of it.

mod log;
mod parts;
mod signals;
mod systemd;

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{homeserver::Homeserver, program::config_file};

/// Nothing here takes so long, however busy the machine is.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A place to run the program in, beside a homeserver double and a service manager's socket.
pub struct Place {
    dir: TempDir,
    pub config: PathBuf,
    pub homeserver: Homeserver,
    notifications: mpsc::Receiver<String>,
}

impl Place {
    pub fn new() -> Self {
        let (dir, homeserver) = (TempDir::new().expect("a directory"), Homeserver::start());
        let config = config_file(dir.path(), &homeserver);
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        let (send, notifications) = mpsc::channel();
        // Read all the time, as a service manager does: who sends waits otherwise.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer)
                && send.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_ok()
            {}
        });
        Self { dir, config, homeserver, notifications }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self) -> Command {
        self.configure(Command::new(env!("CARGO_BIN_EXE_bindery")))
    }

    /// The program behind a line of shell that ends with `exec "$0" "$@"`.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line, env!("CARGO_BIN_EXE_bindery")]);
        self.configure(command)
    }

    fn configure(&self, mut command: Command) -> Command {
        command
            .args(["serve", "--config"])
            .arg(&self.config)
            .env("NOTIFY_SOCKET", self.path().join("notify"))
            .env("BINDERY_HTTP__WORKERS", "2")
            .env_remove("WATCHDOG_USEC")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Waits for a message to the service manager that begins with this; gives every message until then.
    #[track_caller]
    pub fn hear(&self, expected: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let message = self.notifications.recv_timeout(LIMIT);
            heard.push(message.unwrap_or_else(|_| panic!("no {expected}, only {heard:?}")));
            if heard.last().is_some_and(|message| message.starts_with(expected)) {
                return heard;
            }
        }
    }

    /// Whether a message that begins with this has come.
    pub fn has_heard(&self, expected: &str) -> bool {
        self.notifications.try_iter().any(|message| message.starts_with(expected))
    }
}

/// The running program.
pub struct Run {
    child: Child,
    lines: mpsc::Receiver<String>,
    pub log: String,
}

impl Run {
    /// Starts it with its log on a pipe that is read all the time.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).take_while(|line| send.send(line.clone()).is_ok()).count()
        });
        Self { child, lines, log: String::new() }
    }

    /// Starts it with its log in a file, or with the one of its shell.
    fn start_logging_to(mut command: Command, stderr: impl Into<Stdio>) -> Self {
        let child = command.stderr(stderr).spawn().expect("it starts");
        Self { child, lines: mpsc::channel().1, log: String::new() }
    }

    /// The next line of the log that has these words.
    #[track_caller]
    pub fn line(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("no line with '{words}' in the log:\n{}", self.log));
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits until it serves; gives its base URL.
    #[track_caller]
    pub fn base(&mut self) -> String {
        let line = self.line("address=");
        let (_, address) = line.split_once("address=").expect("an address");
        format!("http://{}", address.trim())
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits until it has ended by itself; gives its status and everything it has logged.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                break status;
            }
            assert!(started.elapsed() < LIMIT, "it does not end:\n{}", self.log);
            match self.lines.recv_timeout(Duration::from_millis(5)) {
                Ok(line) => self.log.extend([line.as_str(), "\n"]),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        while let Ok(line) = self.lines.recv() {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        (status, std::mem::take(&mut self.log))
    }

    /// Ends it as a service manager does.
    #[track_caller]
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.end();
        assert!(status.success(), "{status}:\n{log}");
        log
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago, for a program whose log cannot be read.
pub fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Whether the server at this address answers.
pub async fn answers(base: &str) -> bool {
    let url = format!("{base}{}", crate::support::v2(""));
    crate::support::client().get(url).send().await.is_ok_and(|reply| reply.status() == 200)
}

fn open(path: &str) -> File {
    File::options().write(true).open(path).expect("it opens")
}
