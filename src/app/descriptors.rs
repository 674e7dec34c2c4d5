//! File descriptors: raises their limit at the start and shares them out, so that no flood of connections takes
//! those of the database, its rewrite and the logs.

use anyhow::bail;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What an idle server uses, its connections not included.
const BASE: usize = 64;
/// What it uses for each thread that answers requests.
const PER_WORKER: usize = 4;
/// Kept free for the rewrite, the logs, the commands, mail and messages.
const SPARE: usize = 32;
/// A request to another server needs a connection and, for DNS, two sockets.
const PER_REQUEST: usize = 3;
/// More would not fit the memory of a small machine.
const MAX_CONNECTIONS_PER_WORKER: usize = 2048;
const MAX_REQUESTS: usize = 512;

/// How the descriptors are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The most connections of a thread that answers requests.
    pub connections_per_worker: usize,
    /// The most requests to other servers at the same time.
    pub requests: usize,
}

/// Raises the soft limit of open files to the hard one and shares it out.
///
/// # Errors
/// What to raise, if the limit is too low to answer requests.
pub fn share_out(workers: usize) -> anyhow::Result<Descriptors> {
    let limit = getrlimit(Resource::Nofile);
    // Some systems have a maximum below an unlimited hard limit. The soft limit stays then.
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    let limit = limit.current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let needed = BASE + PER_WORKER * workers;
    if limit < needed {
        bail!(
            "the limit of open files is {limit}, and {workers} HTTP workers need at least {needed} and one more for each connection: raise it with LimitNOFILE= in the systemd unit, or with 'ulimit -n'"
        );
    }
    Ok(shares(limit - needed, workers))
}

/// A third of what is free at most for requests to others, the rest for connections.
fn shares(free: usize, workers: usize) -> Descriptors {
    let free = free.saturating_sub(SPARE);
    let requests = (free / 3 / PER_REQUEST).clamp(4, MAX_REQUESTS);
    let connections = free.saturating_sub(requests * PER_REQUEST) / workers.max(1);
    Descriptors { connections_per_worker: connections.clamp(4, MAX_CONNECTIONS_PER_WORKER), requests }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_requests_never_take_the_spare_descriptors() {
        for (free, workers) in [(800, 2), (1024, 1), (4000, 8), (60_000, 16), (1_000_000, 4)] {
            let Descriptors { connections_per_worker, requests } = shares(free, workers);
            assert!(connections_per_worker * workers + requests * PER_REQUEST + SPARE <= free, "{free}");
        }
        let systemd = shares(1024 - BASE - PER_WORKER * 2, 2);
        assert_eq!(systemd, Descriptors { connections_per_worker: 307, requests: 102 });
        let raised = shares(524_288, 2);
        assert_eq!(raised, Descriptors { connections_per_worker: 2048, requests: 512 });
    }
}
