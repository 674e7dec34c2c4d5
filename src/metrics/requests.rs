//! Counts the answers to requests and how long they took. Each worker thread counts for itself, so that the
//! threads do not wait for each other; a scrape adds the counts up.

use std::{
    fmt::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::domain::request_kind::{KIND_NAMES, KINDS, RequestKind};

/// The status codes that are counted apart. The last count is of all others.
const CODES: [(u16, &str); 16] = [
    (200, "200"),
    (204, "204"),
    (302, "302"),
    (303, "303"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (410, "410"),
    (413, "413"),
    (429, "429"),
    (500, "500"),
    (502, "502"),
];
const OTHER_CODE: &str = "other";

/// The upper bounds of the buckets of the duration, in microseconds. The last bucket is of all that is slower.
const BOUNDS_MICROS: [u64; 11] =
    [100, 500, 1000, 5000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000];

/// The counts of one worker.
#[derive(Debug, Default)]
pub struct WorkerRequests([OfKind; KINDS]);

#[derive(Debug, Default)]
struct OfKind {
    codes: [AtomicU64; CODES.len() + 1],
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    nanos: AtomicU64,
}

impl WorkerRequests {
    /// Counts an answer.
    pub fn count(&self, kind: RequestKind, status: u16, took: Duration) {
        let OfKind { codes, buckets, nanos } = &self.0[kind as usize];
        let code = CODES.iter().position(|(code, _)| *code == status).unwrap_or(CODES.len());
        let micros = took.as_micros();
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= u128::from(*bound));
        codes[code].fetch_add(1, Ordering::Relaxed);
        buckets[bucket.unwrap_or(BOUNDS_MICROS.len())].fetch_add(1, Ordering::Relaxed);
        nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The counts of all workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Arc<Mutex<Vec<Arc<WorkerRequests>>>>);

impl Requests {
    /// The counts of another worker.
    pub(super) fn worker(&self) -> Arc<WorkerRequests> {
        let worker = Arc::<WorkerRequests>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(worker.clone());
        worker
    }

    /// The sum over all workers.
    fn sum(&self, kind: usize, count: impl Fn(&OfKind) -> &AtomicU64) -> u64 {
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().map(|worker| count(&worker.0[kind]).load(Ordering::Relaxed)).sum()
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Answered requests, by kind and status code";
        let mut counter = encoder.encode_descriptor("http_requests", help, None, MetricType::Counter)?;
        for (kind, name) in KIND_NAMES.iter().enumerate() {
            let codes = CODES.iter().map(|(_, code)| *code).chain([OTHER_CODE]);
            for (at, code) in codes.enumerate() {
                let count = self.sum(kind, |of_kind| &of_kind.codes[at]);
                let labels = [("kind", *name), ("code", code)];
                counter.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let help = "Time from the arrival of a request until its answer was ready, by kind";
        let name = "http_request_duration_seconds";
        let mut histogram = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (kind, name) in KIND_NAMES.iter().enumerate() {
            let bounds = BOUNDS_MICROS.iter().map(|micros| Duration::from_micros(*micros).as_secs_f64());
            let buckets = bounds.chain([f64::INFINITY]).enumerate();
            let buckets: Vec<(f64, u64)> =
                buckets.map(|(at, bound)| (bound, self.sum(kind, |of_kind| &of_kind.buckets[at]))).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = Duration::from_nanos(self.sum(kind, |of_kind| &of_kind.nanos)).as_secs_f64();
            let labels = [("kind", *name)];
            histogram.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn workers_are_added_up_by_kind_code_and_duration() {
        let requests = Requests::default();
        let (one, other) = (requests.worker(), requests.worker());
        one.count(RequestKind::Lookup, 200, Duration::from_micros(100));
        other.count(RequestKind::Lookup, 200, Duration::from_micros(101));
        other.count(RequestKind::Lookup, 418, Duration::from_secs(3600));
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register_collector(Box::new(requests));
        encode(&mut text, &registry).expect("a string takes all");
        for line in [
            "http_requests_total{kind=\"lookup\",code=\"200\"} 2",
            "http_requests_total{kind=\"lookup\",code=\"other\"} 1",
            "http_requests_total{kind=\"lookup\",code=\"429\"} 0",
            "http_requests_total{kind=\"page\",code=\"200\"} 0",
            "http_request_duration_seconds_bucket{le=\"0.0001\",kind=\"lookup\"} 1",
            "http_request_duration_seconds_bucket{le=\"0.0005\",kind=\"lookup\"} 2",
            "http_request_duration_seconds_bucket{le=\"10.0\",kind=\"lookup\"} 2",
            "http_request_duration_seconds_bucket{le=\"+Inf\",kind=\"lookup\"} 3",
            "http_request_duration_seconds_count{kind=\"lookup\"} 3",
            "http_request_duration_seconds_sum{kind=\"lookup\"} 3600.000201",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
