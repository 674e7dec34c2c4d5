//! Lookups of 1, 10 and 1,000 addresses, half of them known, with and without the log of lookups, beside
//! the constant handler.

use std::{fs, io::ErrorKind, time::Duration};

use bindery::{config::LookupLog, logs};

use crate::{
    data::Data,
    load::{Load, Request, Round},
    process::Server,
    tables::{Cell, count, median, millis, quantile},
};

/// The columns.
pub const HEAD: [&str; 12] = [
    "bindings",
    "addresses in a request",
    "log",
    "rows lost",
    "requests/s",
    "addresses/s",
    "p50",
    "p99",
    "constant handler, requests/s",
    "ratio",
    "ratio of processor time",
    "busy",
];

/// What the columns mean.
pub const NOTE: &str = "\
Bindery with everything on (token, accepted terms, limits), half of the addresses known, 16 connections. The
constant handler reads the same request in the same actix configuration and answers with a constant; they took
turns. `busy` is how much of the core each had while it was measured: far below 100 %, something else ran
there, and the ratio of processor time says more than the one of requests. `log` is `privacy.lookup_log`; `rows
lost` says how many answered lookups are missing from the log afterwards.";

/// How often the two take turns.
pub const ROUNDS: u32 = 5;

const CONNECTIONS: usize = 16;

/// One side of the comparison.
struct Contender {
    server: Server,
    load: Load,
    rates: Vec<f64>,
    latencies: Vec<Duration>,
    elapsed: Duration,
    busy: Duration,
    answered: u64,
}

impl Contender {
    fn new(server: Server, checks: bool) -> anyhow::Result<Self> {
        let load = Load::connect(server.address, CONNECTIONS, checks)?;
        let (elapsed, busy) = (Duration::ZERO, Duration::ZERO);
        Ok(Self { server, load, rates: Vec::new(), latencies: Vec::new(), elapsed, busy, answered: 0 })
    }

    fn run(&mut self, requests: &[Request], time: Duration) -> anyhow::Result<Round> {
        let mut requests = requests.iter().cycle();
        let round = self.load.run(time, || requests.next())?;
        self.answered += round.latencies.len() as u64;
        Ok(round)
    }

    fn round(&mut self, requests: &[Request], time: Duration) -> anyhow::Result<()> {
        let before = self.server.processor_time()?;
        let round = self.run(requests, time)?;
        self.busy += self.server.processor_time()? - before;
        self.elapsed += round.elapsed;
        self.rates.push(round.rate());
        self.latencies.extend(round.latencies);
        Ok(())
    }

    /// The share of its core that the server had, in percent. Far less than 100 means that other
    /// processes, or the load, and not the server were the limit.
    fn busy(&self) -> f64 {
        100.0 * self.busy.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// The processor time that a request took, in seconds.
    fn cost(&self) -> f64 {
        self.busy.as_secs_f64() / self.latencies.len() as f64
    }
}

/// Measures each size of request.
pub fn measure(data: &Data, time: Duration) -> anyhow::Result<Vec<[Cell; HEAD.len()]>> {
    let mut rows = Vec::new();
    for addresses in [1, 10, 1000] {
        for log in [LookupLog::Off, LookupLog::Full] {
            eprintln!("{} bindings: lookups of {addresses}, log {log:?}", data.bindings);
            rows.push(measure_one(data, addresses, log, time)?);
        }
    }
    Ok(rows)
}

fn measure_one(
    data: &Data,
    addresses: u64,
    log: LookupLog,
    time: Duration,
) -> anyhow::Result<[Cell; HEAD.len()]> {
    let requests = data.lookups(addresses);
    let mut config = data.config.clone();
    config.privacy.lookup_log = log;
    remove_logs(data)?;
    let mut bindery = Contender::new(Server::bindery(&config)?, true)?;
    let mut constant = Contender::new(Server::constant()?, false)?;
    for contender in [&mut bindery, &mut constant] {
        contender.run(&requests, time / ROUNDS)?;
    }
    for _ in 0..ROUNDS {
        bindery.round(&requests, time / ROUNDS)?;
        constant.round(&requests, time / ROUNDS)?;
    }
    let ratios = bindery.rates.iter().zip(&constant.rates).map(|(own, constant)| own / constant);
    let ratio = median(ratios.collect());
    bindery.latencies.sort_unstable();
    let cost_ratio = constant.cost() / bindery.cost();
    let busy = format!("{:.0} %, {:.0} %", bindery.busy(), constant.busy());
    let rates = [median(bindery.rates), median(constant.rates)];
    bindery.server.stop()?;
    constant.server.kill()?;
    let [logged, ..] = logs::held(&logs::folder(&config.data_dir), &config.privacy)?;
    let (name, lost) = match log {
        LookupLog::Full => ("full", count(bindery.answered as f64 - logged.rows as f64)),
        _ => ("off", String::new()),
    };
    // At full speed they grow by the gigabyte.
    remove_logs(data)?;
    Ok([
        count(data.bindings as f64),
        count(addresses as f64),
        name.to_owned(),
        lost,
        count(rates[0]),
        count(rates[0] * addresses as f64),
        millis(quantile(&bindery.latencies, 0.5)),
        millis(quantile(&bindery.latencies, 0.99)),
        count(rates[1]),
        format!("{ratio:.2}"),
        format!("{cost_ratio:.2}"),
        busy,
    ])
}

fn remove_logs(data: &Data) -> anyhow::Result<()> {
    match fs::remove_dir_all(logs::folder(&data.config.data_dir)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
