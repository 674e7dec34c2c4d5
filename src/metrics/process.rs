//! The metrics of the process that Prometheus's client libraries agree on, read at each scrape.

use std::{fmt::Error, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use crate::domain::time::Millis;

/// Reads them.
#[derive(Debug)]
pub(super) struct Process {
    pub started: Millis,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut show = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let started = self.started.0 as f64 / 1000.0;
        show(
            "process_cpu_seconds",
            "User and system CPU time that the process used",
            &ConstCounter::new(cpu_seconds()),
        )?;
        show("process_resident_memory_bytes", "Resident memory", &ConstGauge::new(resident_bytes()))?;
        show("process_open_fds", "Open file descriptors", &ConstGauge::new(open_descriptors()))?;
        show("process_max_fds", "The most file descriptors that may be open", &ConstGauge::new(max_fds()))?;
        show(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
            &ConstGauge::new(started),
        )
    }
}

fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// 0 where /proc cannot be read.
fn resident_bytes() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<i64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// 0 where /proc cannot be read. The descriptor that reads the directory does not count.
fn open_descriptors() -> i64 {
    let count = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    i64::try_from(count).unwrap_or(i64::MAX).saturating_sub(1).max(0)
}

fn max_fds() -> i64 {
    getrlimit(Resource::Nofile).current.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        assert!(cpu_seconds() > 0.0);
        assert!(resident_bytes() > 1 << 20);
        assert!(open_descriptors() >= 3 && open_descriptors() < max_fds());
    }
}
