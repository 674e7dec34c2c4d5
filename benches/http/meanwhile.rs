//! Lookups of one address while nothing else happens, and while the server is busy with something:
//! others bind, the pepper is replaced, retention looks at every row, the file is rewritten.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bindery::{
    admin::{Command, RotatePepper, RunRetention},
    app::CONTROL_SOCKET,
};

use crate::{
    data::{Data, SESSIONS},
    load::{Load, Request, Round},
    process::Server,
    tables::{Cell, count, millis, quantile},
};

/// The columns.
pub const HEAD: [&str; 7] =
    ["bindings", "meanwhile", "took", "requests/s", "p50", "p99", "p99 beside nothing"];

/// What the columns mean.
pub const NOTE: &str = "\
Lookups of one address by 16 connections while the server does something else, on the same core: everything
on, as above. `took` is how long that went on, from the command to its answer; the rotation and the look at every
row, which is made once a day, rest between their steps.";

const CONNECTIONS: usize = 16;

/// Nothing takes longer.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Measures one database. The pepper is another one afterwards, so nothing may be measured after it.
pub fn measure(data: Data, time: Duration) -> anyhow::Result<Vec<[Cell; HEAD.len()]>> {
    data.remove_something()?;
    let (requests, binds) =
        (data.lookups(1), (0..SESSIONS).map(|number| data.bind(number)).collect::<Vec<_>>());
    let server = Server::bindery(&data.config)?;
    let mut load = Load::connect(server.address, CONNECTIONS, true)?;
    let socket = data.config.data_dir.join(CONTROL_SOCKET);
    let command = |path: &str| -> anyhow::Result<()> {
        let mut stream = UnixStream::connect(&socket)?;
        let head = "Host: control\r\nConnection: close\r\nContent-Length: 4";
        stream.write_all(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\nnull").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{path} was answered: {answer}");
        Ok(())
    };
    let bind = || -> anyhow::Result<()> {
        let mut binds = binds.iter().cycle();
        Load::connect(server.address, 64, true)?.run(time, || binds.next()).map(drop)
    };
    let rest = || {
        thread::sleep(time);
        Ok(())
    };
    // Once without looking.
    during(&mut load, &requests, &rest)?;
    let work: [(&str, &(dyn Fn() -> anyhow::Result<()> + Sync)); 5] = [
        ("nothing", &rest),
        ("64 clients bind", &bind),
        ("the pepper is replaced", &|| command(RotatePepper::PATH)),
        ("retention looks at every row, then the file is rewritten", &|| command(RunRetention::PATH)),
        // Nothing was removed since.
        ("retention looks at every row", &|| command(RunRetention::PATH)),
    ];
    let (mut rows, mut alone) = (Vec::new(), None);
    for (name, work) in work {
        eprintln!("{} bindings: lookups, and {name}", data.bindings);
        let (mut round, took) = during(&mut load, &requests, work)?;
        let rate = round.rate();
        round.latencies.sort_unstable();
        let p99 = quantile(&round.latencies, 0.99);
        let beside = p99.as_secs_f64() / alone.get_or_insert(p99).as_secs_f64();
        rows.push([
            count(data.bindings as f64),
            name.to_owned(),
            format!("{:.2} s", took.as_secs_f64()),
            count(rate),
            millis(quantile(&round.latencies, 0.5)),
            millis(p99),
            format!("{beside:.1}"),
        ]);
    }
    server.stop()?;
    Ok(rows)
}

/// Looks up for as long as `work` takes.
fn during(
    load: &mut Load,
    requests: &[Request],
    work: &(dyn Fn() -> anyhow::Result<()> + Sync),
) -> anyhow::Result<(Round, Duration)> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let began = Instant::now();
            let outcome = work();
            done.store(true, Ordering::Relaxed);
            outcome.map(|()| began.elapsed())
        });
        let mut requests = requests.iter().cycle();
        let next = || if done.load(Ordering::Relaxed) { None } else { requests.next() };
        let round = load.run(MAX_WAIT, next)?;
        let took = working.join().ok().context("a thread panicked")??;
        Ok((round, took))
    })
}
