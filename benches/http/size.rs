//! Memory, disk, and the time from the start of the process to the first answer.

use std::{path::Path, time::Duration};

use redb::Database;

use crate::{
    data::{self, Data},
    load::{Load, Request},
    process::{self, Server},
    tables::{Cell, count, median},
};

/// The columns.
pub const HEAD: [&str; 9] = [
    "bindings",
    "memory, idle",
    "memory after lookups",
    "file / bindings",
    "pages in use / bindings",
    "start, empty",
    "start",
    "start after kill -9",
    "executable",
];

/// What the columns mean.
pub const NOTE: &str = "\
The file as it is after filling it in random order, nothing rewritten; memory is what is resident (VmRSS), its
bound the cache's setting; starts are from the start of the process to the first answer, the median of five.
After `kill -9` under writes, everything that had been answered was looked up and found.";

/// How often a start is measured.
const STARTS: usize = 5;

/// Measures one database.
pub fn measure(data: &Data, time: Duration) -> anyhow::Result<[Cell; HEAD.len()]> {
    eprintln!("{} bindings: size and start", data.bindings);
    let empty = median_start(|attempt| {
        let server = Server::bindery(&data::config(data.beside(&format!("empty-{attempt}"))))?;
        let ready_after = server.ready_after;
        server.stop()?;
        Ok(ready_after)
    })?;
    let full = median_start(|_| {
        let server = Server::bindery(&data.config)?;
        let ready_after = server.ready_after;
        server.stop()?;
        Ok(ready_after)
    })?;
    let (idle, used) = memory(data, time)?;
    let mut binds = 0;
    let crashed = median_start(|_| after_crash(data, time / 5, &mut binds))?;
    Ok([
        count(data.bindings as f64),
        format!("{idle:.0} MiB"),
        format!("{used:.0} MiB"),
        format!("{} bytes", data.file_length / data.bindings),
        format!("{} bytes", data.in_use / data.bindings),
        format!("{empty:.0} ms"),
        format!("{full:.0} ms"),
        format!("{crashed:.0} ms"),
        format!("{:.1} MiB", process::length(process::EXECUTABLE.as_ref())? as f64 / f64::from(1 << 20)),
    ])
}

/// The median of several starts, in milliseconds.
fn median_start(mut start: impl FnMut(usize) -> anyhow::Result<Duration>) -> anyhow::Result<f64> {
    let starts = (0..STARTS).map(|attempt| Ok(start(attempt)?.as_secs_f64() * 1000.0));
    Ok(median(starts.collect::<anyhow::Result<_>>()?))
}

/// Memory in MiB right after the start, and after lookups of every size.
fn memory(data: &Data, time: Duration) -> anyhow::Result<(f64, f64)> {
    let server = Server::bindery(&data.config)?;
    let idle = server.memory()?;
    for addresses in [1, 10, 1000] {
        let requests = data.lookups(addresses);
        let mut requests = requests.iter().cycle();
        Load::connect(server.address, 16, true)?.run(time / 3, || requests.next())?;
    }
    let used = server.memory()?;
    server.stop()?;
    Ok((idle, used))
}

/// Kills a server that 64 clients bind at, starts it again, and looks whether everything that it
/// had answered is there.
fn after_crash(data: &Data, time: Duration, binds: &mut u64) -> anyhow::Result<Duration> {
    let first = *binds;
    let requests: Vec<Request> = (first..first + 5000).map(|bind| data.bind(bind)).collect();
    let (mut requests, mut unanswered) = {
        let (answered, unanswered) = requests.split_at(requests.len() - 64);
        (answered.iter(), unanswered.iter())
    };
    let server = Server::bindery(&data.config)?;
    let mut load = Load::connect(server.address, 64, true)?;
    let answered = load.run(time, || requests.next())?.latencies.len() as u64;
    load.send_and_leave(|| unanswered.next().expect("one for each connection"))?;
    server.kill()?;
    let server = Server::bindery(&data.config)?;
    let found: Vec<Request> = (first..first + answered).map(|bind| data.lookup_bound(bind)).collect();
    let mut found = found.iter();
    Load::connect(server.address, 1, true)?.run(Duration::from_secs(60), || found.next())?;
    let ready_after = server.ready_after;
    server.stop()?;
    *binds += 5000;
    Ok(ready_after)
}

/// How many bytes of a database file belong to pages that hold something.
pub fn in_use(file: &Path) -> anyhow::Result<u64> {
    let database = Database::open(file)?;
    let transaction = database.begin_write()?;
    let stats = transaction.stats()?;
    let bytes = stats.allocated_pages() * stats.page_size() as u64;
    transaction.abort()?;
    Ok(bytes)
}
