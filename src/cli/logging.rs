//! The operator's log on standard error. A log that cannot be written takes nothing down and delays no request.
//!
//! Lines go into a bounded queue, and one thread writes them. When standard error fails or blocks, the thread tries
//! again and again; lines for which the queue has no room are counted, and the log says how many were lost as soon
//! as it can be written again. Lines that requests cause are summed up, see [`super::summing`].

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    panic::PanicHookInfo,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use tracing::{Level, Metadata, callsite::Identifier};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::{
    log_line,
    summing::{self, LeftOut, Sums},
};
use crate::{
    config::{Log, LogFormat},
    http::RequestId,
};

/// How many bytes of lines the queue holds.
const MAX_QUEUED: usize = 1 << 20;
/// The pause after a write that failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The pause between two checks for sums of lines that are due.
const SUM_INTERVAL: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What the log shows.
pub fn filter(log: &Log) -> anyhow::Result<EnvFilter> {
    // The HTTP library tells of its threads, and of every malformed or oversized request at the level of errors. An
    // operator needs neither, and anybody could fill the log.
    EnvFilter::try_new(format!("actix_server=warn,actix_http::h1=off,{}", log.level))
        .with_context(|| format!("log.level: '{}' is not a level", log.level))
}

/// Starts logging. Dropping the result waits a moment for the last lines.
pub fn start(log: &Log) -> anyhow::Result<Flush> {
    let filter = filter(log)?;
    // A descriptor of its own, because a write that blocks holds the lock of the standard one.
    let file = File::from(io::stderr().as_fd().try_clone_to_owned().context("standard error")?);
    let format = log_line::format(log.format, &file);
    QUEUE.lock().is_open = true;
    thread::Builder::new().name("log".to_owned()).spawn(move || QUEUE.write_to(file))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(QueueWriters(format));
    match format {
        LogFormat::Text => {
            let subscriber = subscriber.with_ansi(false).with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(Into::into)));
            subscriber.init();
        }
        LogFormat::Json => {
            let subscriber = subscriber.json().with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(Into::into)));
            subscriber.init();
        }
        LogFormat::Journald => {
            let subscriber = subscriber.with_ansi(false).without_time().with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _ = SET_FILTER.set(Box::new(move |filter| handle.reload(filter).map_err(Into::into)));
            subscriber.init();
        }
    }
    std::panic::set_hook(Box::new(log_panic));
    Ok(Flush)
}

/// Changes what the log shows. The type of a subscriber depends on its format, so this is a closure.
static SET_FILTER: OnceLock<Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>> = OnceLock::new();

/// Shows another level from now on.
pub fn set_level(log: &Log) -> anyhow::Result<()> {
    let filter = filter(log)?;
    SET_FILTER.get().map_or(Ok(()), |set| set(filter))
}

/// Logs where a panic was, but not its message, which may quote an address.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = thread::current().name().unwrap_or_default().to_owned();
    tracing::error!(thread, location, "a panic: this is a bug in Bindery; please report this line");
}

/// Prints an error that ends the program, after the lines of the log.
pub fn print_error(error: &anyhow::Error) {
    let line = format!("bindery: {error:#}\n");
    let is_open = QUEUE.lock().is_open;
    if is_open {
        QUEUE.push(line.as_bytes());
        flush();
    } else {
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Waits until the queued lines are written, for a moment at most.
pub fn flush() {
    let state = QUEUE.lock();
    let is_busy = |state: &mut Queued| state.is_writing || !state.lines.is_empty();
    drop(QUEUE.changed.wait_timeout_while(state, FLUSH_TIMEOUT, is_busy));
}

/// Flushes the log when it is dropped.
pub struct Flush;

impl Drop for Flush {
    fn drop(&mut self) {
        let left_out = QUEUE.lock().take_left_out(now() + summing::INTERVAL);
        left_out.into_iter().for_each(log_left_out);
        flush();
    }
}

/// Makes the writer of each line.
struct QueueWriters(LogFormat);

impl<'a> MakeWriter<'a> for QueueWriters {
    type Writer = QueueWriter;

    fn make_writer(&'a self) -> QueueWriter {
        QueueWriter { format: self.0, level: Level::INFO, kind: None }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> QueueWriter {
        QueueWriter { format: self.0, level: *line.level(), kind: summing::kind(line) }
    }
}

/// Takes one line for each call.
struct QueueWriter {
    format: LogFormat,
    level: Level,
    /// The kind of the line, if it is to be summed up.
    kind: Option<Identifier>,
}

impl Write for QueueWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let is_admitted = self.kind.take().is_none_or(|kind| {
            let mut queued = QUEUE.lock();
            let sums = queued.sums.get_or_insert_default();
            sums.admit(kind, &String::from_utf8_lossy(line), now())
        });
        if is_admitted {
            QUEUE.push(&log_line::complete(self.format, self.level, line, RequestId::current()));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the log runs in real time")]
    Instant::now()
}

/// The process has one standard error.
static QUEUE: Queue = Queue::new();

struct Queue {
    queued: Mutex<Queued>,
    changed: Condvar,
}

struct Queued {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many lines were lost since the start.
    lost: u64,
    is_writing: bool,
    is_open: bool,
    /// `None` before the first line that is to be summed up.
    sums: Option<Sums<Identifier>>,
}

impl Queued {
    fn take_left_out(&mut self, now: Instant) -> Vec<LeftOut> {
        self.sums.as_mut().map(|sums| sums.take_due(now)).unwrap_or_default()
    }
}

/// Logs how many lines like one that was written were not.
fn log_left_out(LeftOut { times, like }: LeftOut) {
    tracing::warn!(times, like, "further lines like this one were left out in the last minute");
}

impl Queue {
    const fn new() -> Self {
        let lines = VecDeque::new();
        let queued = Queued { lines, bytes: 0, lost: 0, is_writing: false, is_open: false, sums: None };
        Self { queued: Mutex::new(queued), changed: Condvar::new() }
    }

    fn push(&self, line: &[u8]) {
        let mut queued = self.lock();
        if queued.bytes + line.len() > MAX_QUEUED {
            queued.lost += 1;
            return;
        }
        queued.bytes += line.len();
        queued.lines.push_back(line.to_owned());
        drop(queued);
        self.changed.notify_all();
    }

    /// Writes lines as they come, for ever.
    fn write_to(&self, mut file: impl Write) {
        let mut told = 0;
        loop {
            let queued = self.lock();
            let is_idle = |queued: &mut Queued| queued.lines.is_empty();
            let waited = self.changed.wait_timeout_while(queued, SUM_INTERVAL, is_idle);
            let (mut queued, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let left_out = queued.take_left_out(now());
            if !left_out.is_empty() {
                drop(queued);
                left_out.into_iter().for_each(log_left_out);
                continue;
            }
            let Some(line) = queued.lines.pop_front() else { continue };
            queued.bytes -= line.len();
            queued.is_writing = true;
            drop(queued);
            write_until_written(&mut file, &line);
            let mut queued = self.lock();
            queued.is_writing = false;
            let lost = queued.lost;
            drop(queued);
            self.changed.notify_all();
            if lost > told {
                told = lost;
                tracing::error!(
                    lost,
                    "lines of this log were lost since the start, because standard error was full, slow or closed"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A full disk may take half a line and the rest later.
fn write_until_written(file: &mut impl Write, mut rest: &[u8]) {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(written) if written > 0 => rest = &rest[written..],
            _ => thread::sleep(RETRY_INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use super::*;

    /// Takes a few bytes at a time, and nothing while it is full.
    struct Disk {
        is_full: &'static AtomicBool,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(5);
            self.written.send(bytes[..taken].to_owned()).expect("the test reads");
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_delays_no_line_and_loses_only_what_the_queue_cannot_hold() {
        static QUEUE: Queue = Queue::new();
        static IS_FULL: AtomicBool = AtomicBool::new(true);
        let (written, lines) = mpsc::channel();
        let disk = Disk { is_full: &IS_FULL, written };
        thread::spawn(move || QUEUE.write_to(disk));
        QUEUE.push(b"the first line\n");
        (0..2000).for_each(|_| QUEUE.push(&[b'x'; 1000]));
        assert!(QUEUE.lock().lost > 900);
        IS_FULL.store(false, Ordering::SeqCst);
        let mut all = Vec::new();
        while all.len() < 15 {
            all.extend(lines.recv().expect("it is written"));
        }
        assert!(all.starts_with(b"the first line\n"));
    }
}
