//! How busy the client is.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// How busy the client is.
pub(super) struct Meter {
    pub(super) began: Timestamp,
    pub(super) at: Instant,
    cpu: Duration,
    /// Time for which there was nothing to do.
    pub(super) waited: Duration,
    /// CPU time and share of the time at work, once it was stopped.
    pub(super) measured: Option<(Duration, f64)>,
}

impl Meter {
    pub(super) fn start() -> Meter {
        Meter {
            began: Timestamp::now(),
            at: Instant::now(),
            cpu: cpu_time(),
            waited: Duration::ZERO,
            measured: None,
        }
    }

    pub(super) fn stop(&mut self) {
        let waited = self.waited.as_secs_f64() / self.at.elapsed().as_secs_f64();
        let cpu = cpu_time().saturating_sub(self.cpu);
        self.measured.get_or_insert((cpu, (1.0 - waited).clamp(0.0, 1.0)));
    }
}

/// Time that the process has spent on processors.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
