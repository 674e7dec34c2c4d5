//! Durable binds over HTTP beside plain redb group commit on the same disk, the same core doing
//! the writing.

use std::{fs, time::Duration};

use bindery::store::DATABASE_FILE;

use crate::{
    data::{Data, SESSIONS},
    load::{Load, Request},
    lookups::ROUNDS,
    process::Server,
    raw::Raw,
    tables::{Cell, count, median, millis, quantile},
};

/// The columns.
pub const HEAD: [&str; 7] =
    ["bindings", "clients", "binds/s", "p50", "p99", "plain redb, operations/s", "ratio"];

/// What the columns mean.
pub const NOTE: &str = "\
`POST /3pid/bind` of validated sessions, each answered when it is on the disk, beside plain redb with group
commit into a copy of the same database: two rows an operation, of the same size, nothing read or signed.";

/// Measures each number of clients.
pub fn measure(data: &Data, time: Duration) -> anyhow::Result<Vec<[Cell; HEAD.len()]>> {
    eprintln!("{} bindings: binds", data.bindings);
    let requests: Vec<Request> = (0..SESSIONS).map(|session| data.bind(session)).collect();
    let copy = data.beside("raw.redb");
    fs::copy(data.config.data_dir.join(DATABASE_FILE), &copy)?;
    let raw = Raw::open(&copy, data.config.store.cache_mib << 20, data.bindings)?;
    let server = Server::bindery(&data.config)?;
    let mut requests = requests.iter().cycle();
    let mut next = || requests.next();
    let mut rows = Vec::new();
    for clients in [1, 16, 64] {
        let mut load = Load::connect(server.address, clients, true)?;
        load.run(time / ROUNDS, &mut next)?;
        raw.rate(clients, time / ROUNDS)?;
        let (mut rates, mut raw_rates, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let round = load.run(time / ROUNDS, &mut next)?;
            rates.push(round.rate());
            latencies.extend(round.latencies);
            raw_rates.push(raw.rate(clients, time / ROUNDS)?);
        }
        latencies.sort_unstable();
        let ratios = rates.iter().zip(&raw_rates).map(|(own, raw)| own / raw).collect();
        rows.push([
            count(data.bindings as f64),
            clients.to_string(),
            count(median(rates)),
            millis(quantile(&latencies, 0.5)),
            millis(quantile(&latencies, 0.99)),
            count(median(raw_rates)),
            format!("{:.2}", median(ratios)),
        ]);
    }
    server.stop()?;
    raw.close()?;
    Ok(rows)
}
