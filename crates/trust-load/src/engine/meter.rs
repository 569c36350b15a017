//! How busy the client is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How busy the client is.
pub(super) struct Meter {
    /// Since when, on the clock of the run.
    since: Duration,
    cpu: Duration,
    /// Time for which there was nothing to do.
    pub(super) waited: Duration,
    /// How long it ran, CPU time and share of the time at work, once it was stopped.
    pub(super) measured: Option<(Duration, Duration, f64)>,
}

impl Meter {
    pub(super) fn start(since: Duration) -> Meter {
        Meter { since, cpu: cpu_time(), waited: Duration::ZERO, measured: None }
    }

    /// Only the first time counts.
    pub(super) fn stop(&mut self, now: Duration) {
        let ran = now.saturating_sub(self.since);
        let waited = self.waited.as_secs_f64() / ran.as_secs_f64().max(f64::MIN_POSITIVE);
        let cpu = cpu_time().saturating_sub(self.cpu);
        self.measured.get_or_insert((ran, cpu, (1.0 - waited).clamp(0.0, 1.0)));
    }
}

/// Time that the process has spent on processors.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
