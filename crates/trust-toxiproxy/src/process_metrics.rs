//! What the process itself takes, by the names of Prometheus's own libraries.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Numbers of this process; `None`: the system does not say it, as without `/proc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessMetrics {
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) descriptors: Option<f64>,
    pub(crate) descriptors_max: Option<f64>,
    pub(crate) resident_bytes: Option<f64>,
    pub(crate) virtual_bytes: Option<f64>,
    /// Since 1970.
    pub(crate) start_seconds: Option<f64>,
}

impl ProcessMetrics {
    pub(crate) fn now() -> ProcessMetrics {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut bytes = pages.split(' ').map(|pages| {
            let pages: u64 = pages.parse().ok()?;
            Some((pages * page_size() as u64) as f64)
        });
        ProcessMetrics {
            cpu_seconds: Some(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9),
            // The one that lists them is not counted.
            descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|list| list.count().saturating_sub(1) as f64),
            // Without a limit it is the highest number, as in other exporters.
            descriptors_max: Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) as f64),
            virtual_bytes: bytes.next().flatten(),
            resident_bytes: bytes.next().flatten(),
            start_seconds: start_seconds(),
        }
    }
}

/// When the process was started (proc(5): `btime`, and the 22nd field of `stat`).
fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, the second field, may have spaces and parentheses.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: u64 = fields.split(' ').nth(22 - 3)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.parse::<u64>().ok()? as f64 + ticks as f64 / clock_ticks_per_second() as f64)
}
