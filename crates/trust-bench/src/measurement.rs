//! One measurement of a process under load.

use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::kernel;
use crate::load::Load;
use crate::process::{CpuTime, Process};

/// One measurement.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Messages or connections.
    pub count: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// CPU time of the server.
    pub cpu: Duration,
    /// The program's share of that; the rest is the kernel's.
    pub user_share: f64,
    /// CPU time of the load.
    pub load_cpu: Duration,
    /// In nanoseconds; `None` if it is not measured.
    pub latency: Option<Histogram<u64>>,
}

/// Runs a load for so long, and measures the process that serves or relays it, if there is one.
///
/// # Errors
///
/// If the load fails or the process has ended.
pub fn measure_messages(
    process: Option<&Process>,
    load: &mut Load,
    length: Duration,
) -> io::Result<Measurement> {
    measure(process, || {
        let seen = load.run(length)?;
        Ok((seen.messages, seen.elapsed, Some(seen.latency)))
    })
}

/// How many messages or connections there were, for how long, and the latencies.
pub type Counted = (u64, Duration, Option<Histogram<u64>>);

/// Measures a process during a run.
///
/// # Errors
///
/// If the run fails or the process has ended.
pub fn measure(
    process: Option<&Process>,
    run: impl FnOnce() -> io::Result<Counted>,
) -> io::Result<Measurement> {
    let cpu_time = || process.map_or(Ok(CpuTime::default()), Process::cpu_time);
    let (server_before, load_before) = (cpu_time()?, kernel::own_cpu_time());
    let (count, elapsed, latency) = run()?;
    let (server, load) = (cpu_time()?, kernel::own_cpu_time());
    Ok(Measurement {
        count,
        elapsed,
        cpu: server.total.saturating_sub(server_before.total),
        user_share: server.user_share_since(&server_before),
        load_cpu: load - load_before,
        latency,
    })
}
