//! The time of a server.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use trust_wire::Timestamp;

/// Nanoseconds since the server was set up, on the clock that never goes back (`CLOCK_MONOTONIC`,
/// `clock_gettime(2)`).
///
/// In place of [`std::time::Instant`], whose differences take longer than reading the clock does,
/// and the clock is read for each receive.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock { started: nanoseconds(ClockId::CLOCK_MONOTONIC) }
    }

    /// Where on the kernel's clock that point in time is.
    pub fn since_boot(self, time: Timestamp) -> Duration {
        Duration::from_nanos(self.started) + time.since(Timestamp::default())
    }

    /// The time since the start.
    pub fn now(self) -> Timestamp {
        Timestamp::from_nanos(nanoseconds(ClockId::CLOCK_MONOTONIC) - self.started)
    }

    /// The time of the kernel's last tick, up to ten milliseconds ago (`CLOCK_MONOTONIC_COARSE`).
    pub fn coarse_now(self) -> Timestamp {
        let now = nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE);
        // The last tick may have been before the start.
        Timestamp::from_nanos(now.saturating_sub(self.started))
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    const PER_SECOND: u64 = 1_000_000_000;
    // rustix reads the vDSO itself, which crashes under valgrind.
    let time = clock_gettime(clock).expect("every Linux has this clock");
    // Neither part is negative on this clock.
    time.tv_sec() as u64 * PER_SECOND + time.tv_nsec() as u64
}
